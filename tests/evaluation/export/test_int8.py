"""Exports in int8: which layers are, that the agent goes on choosing as it did, and what is refused."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from helpers import untrained

from rlsuite.acting.act import act
from rlsuite.core.agent import Mode
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.types import Step
from rlsuite.evaluation import export as package
from rlsuite.evaluation.evaluate import evaluate
from rlsuite.evaluation.export import compared, export, int8
from rlsuite.evaluation.export.acting_net import ActingNet
from rlsuite.evaluation.export.onnx_player import in_int8
from rlsuite.evaluation.saved_agent import Saved

BOARD = "pretrained:tic_tac_toe"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "OBSERVATIONS", 160)


def test_inner_layers_are_in_int8_and_the_moves_stay(tmp_path: Path) -> None:
    export(Path(BOARD), "onnx", tmp_path / "fp32")
    facts = export(Path(BOARD), "onnx", tmp_path / "int8", int8=True)
    model = onnx.load(tmp_path / "int8" / "model.onnx")
    (metadata,) = [one.value for one in model.metadata_props if one.key == "rlsuite"]
    assert json.loads(metadata)["precision"] == facts["precision"] == "int8"
    layers = {node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    assert set(facts["int8_layers"]) < layers
    (first,) = [node.name for node in model.graph.node if node.op_type == "Conv"][:1]
    assert first not in facts["int8_layers"]
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    stored = [name for name, kind in kinds.items() if kind == onnx.TensorProto.INT8 and "zero_point" not in name]
    assert len(stored) == len(facts["int8_layers"])
    check = facts["check"]
    assert 0 < check["largest_difference"] < 2
    assert check["equal_actions"] + check["ties"] / check["observations"] >= 0.97
    fp32, small = ((tmp_path / name / "model.onnx").stat().st_size for name in ("fp32", "int8"))
    assert small < 0.6 * fp32
    assert {path.name for path in (tmp_path / "int8").iterdir()} == {"model.onnx", "model.json"}


def test_a_layer_that_changes_the_actions_stays_in_fp32(tmp_path: Path) -> None:
    export(Path(BOARD), "onnx", tmp_path / "fp32")
    tried: list[set[str]] = []

    def agrees(path: Path) -> float:
        quantised = {
            node.name for node in onnx.load(path).graph.node if node.op_type == "Conv" and "DequantizeLinear" in node.input[0]
        }
        tried.append(quantised)
        return 0.5 if "node_conv2d_1" in quantised else 1.0 - 0.001 * len(quantised)

    path = tmp_path / "fp32" / "model.onnx"
    planes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    shape = [2, *(one.dim_value for one in planes[1:])]
    feed = {"observation": package.np.zeros(shape, "int8")}
    chosen = int8.quantise(path, [feed], agrees)
    assert "node_conv2d_1" not in chosen
    assert len(chosen) >= 5
    assert [len(one) for one in tried[:2]] == [1, 1]  # each alone first


def test_a_net_with_no_layer_that_may_change_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "LEAST_EQUAL", 1.1)
    with pytest.raises(RlsuiteError, match=r"no layer can be in int8 .* \(rlsuite distill\)"):
        export(Path("pretrained:cartpole"), "onnx", tmp_path / "out", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_net_without_inner_layers_is_refused(tmp_path: Path) -> None:
    run = untrained("classic/taxi", {}, tmp_path / "run")
    with pytest.raises(UsageError, match=r"has \d layers with weights and none between the first and the last"):
        export(run, "onnx", tmp_path / "out", int8=True)
    assert not (tmp_path / "out").exists()


def test_int8_is_for_onnx(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--int8 works with --format onnx, not torch"):
        export(Path(BOARD), "torch", tmp_path / "out", int8=True)


@pytest.mark.parametrize("name", ["pretrained:cartpole", BOARD])
def test_an_agent_plays_in_int8_as_well_as_in_fp32(name: str) -> None:
    scores = [evaluate(Path(name), 6, 3, None, precision=precision)[0].mean for precision in ("fp32", "int8")]
    assert scores[0] == pytest.approx(scores[1], abs=5)


def test_a_memory_is_carried_through_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "LEAST_EQUAL", 0.0)
    monkeypatch.setattr(package, "LEAST_EQUAL", 0.0)
    settings = {"net.hidden": 16, "net.memory_size": 16, "env.num_envs": 2, "net.last_action_reward": True}
    run = untrained("classic/recall_r2d2", settings, tmp_path / "run")
    summary = evaluate(run, 3, 1, None, precision="int8").summary
    assert summary.episodes == 3
    saved = Saved(run, changes={"learner": {"precision": "fp32"}})
    agent, net = in_int8(saved)
    rng, mode = torch.Generator().manual_seed(0), Mode(False, 0, torch.Generator())
    states = [saved.agent.initial_state(4), saved.agent.initial_state(4)]
    for t in range(10):
        false = torch.zeros(1, 4, dtype=torch.bool)
        seen = (torch.rand(1, 4, *saved.spec.observation_shape, generator=rng) < 0.3).float()  # as in Recall: int8 knows no others
        step = Step(seen, false.float(), false | (t in (0, 6)), false, false, false.long(), {})
        with torch.no_grad():
            own, states[0], _ = act(saved.agent, saved.net, step, states[0], mode)
            _, states[1], _ = act(agent, net, step, states[1], mode)
        states[1] = (*states[1][:-1], own)  # the same last action, whichever it chose
        for one, other in zip(states[0][:-1], states[1][:-1], strict=True):
            torch.testing.assert_close(one, other, rtol=0.1, atol=0.25)


def test_continuous_actions_must_be_near(tmp_path: Path) -> None:
    saved = Saved(untrained("classic/pendulum_ppo", {}, tmp_path / "run"))
    net = ActingNet(saved.agent, saved.spec, saved.net)
    near = compared(saved, net, lambda given: [net(*given)[0] + 0.001], int8=True)
    assert near.equal_actions == 1
    with pytest.raises(RlsuiteError, match="the exported net differs"):
        compared(saved, net, lambda given: [net(*given)[0] + 1.0], int8=True)


def test_int8_records_no_video(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--precision int8 records no video"):
        evaluate(Path("pretrained:cartpole"), 1, None, tmp_path / "videos", precision="int8")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown precision 'int4'; did you mean int8"):
        evaluate(Path("pretrained:cartpole"), 1, None, None, precision="int4")
