"""Pruning: what is 0 and stays so, what a checkpoint keeps, and nets made smaller."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences, final
from torch import nn

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.config.schema import PruneConfig
from rlsuite.core.errors import UsageError
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.evaluation.shrink import shrink
from rlsuite.factories import make_agent, make_learner, make_spec
from rlsuite.learning import pruning
from rlsuite.learning.pruning import Pruner, prunable
from rlsuite.nets.precision import keep_fp32
from rlsuite.vision.train import train

TINY: dict[str, Any] = {
    "run.threads": 1,
    "net.hidden": 16,
    "replay.min_agent_steps": 100,
    "replay.capacity_agent_steps": 2000,
    "learner.batch_size": 16,
    "learner.learning_rate_end": None,
    "learner.prune.share": 0.75,
    "learner.prune.end_agent_steps": 400,
    "learner.prune.every_learner_steps": 10,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
}
PIXELS: dict[str, Any] = {
    "run.threads": 1,
    "env.num_envs": 4,
    "env.height": 40,
    "env.width": 40,
    "env.max_frames": 400,
    "net.torso": "small",
    "net.layer_norm": False,
    "net.hidden": 16,
    "run.collect_agent_steps": 8,
    "learner.batch_size": 4,
    "agent.minibatches": 1,
    "learner.prune.share": 0.5,
    "learner.prune.what": "channels",
    "learner.prune.end_agent_steps": 100,
    "learner.prune.every_learner_steps": 1,
    "eval.episodes": 1,
    "eval.every_agent_steps": None,
    "eval.stop_at_return": None,
    "run.agent_steps": 256,
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 6), nn.ReLU(), keep_fp32(nn.Linear(6, 3)))


def pruner(what: str, share: float = 0.5, **settings: Any) -> tuple[nn.Sequential, Pruner]:
    made = net()
    config = PruneConfig.model_validate(
        {"share": share, "what": what, "end_agent_steps": 100, "every_learner_steps": 1, **settings}
    )
    return made, Pruner(made, config)


def test_the_smallest_weights_of_every_layer_go_and_the_last_layer_stays() -> None:
    made, one = pruner("weights")
    before = made[0].weight.detach().clone()
    assert one.advance(100, 0, lambda: None)
    one.apply(made)
    gone = made[0].weight == 0
    assert gone.sum() == 40
    assert before[gone].abs().max() < before[~gone].abs().min()
    assert torch.equal(made[0].weight[~gone], before[~gone])
    assert (made[2].weight == 0).sum() == 30
    assert (made[4].weight == 0).sum() == 0
    assert one.pruned == 0.5
    assert set(prunable(made)) == {"0", "2"}


def test_channels_go_with_their_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "refuse_dependent", lambda *given: None)
    made, one = pruner("channels", 0.3)
    norms = made[0].weight.detach().norm(dim=1)
    assert one.advance(100, 0, lambda: None)
    one.apply(made)
    gone = (made[0].weight == 0).all(1)
    assert gone.sum() == 3
    assert set(norms.argsort()[:3].tolist()) == set(gone.nonzero()[:, 0].tolist())
    assert (made[0].bias[gone] == 0).all()
    assert (made[0].bias[~gone] != 0).all()


def test_one_channel_is_always_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "refuse_dependent", lambda *given: None)
    made, one = pruner("channels", 0.999)
    assert one.advance(100, 0, lambda: None)
    one.apply(made)
    assert [(made[i].weight != 0).any(1).sum().item() for i in (0, 2)] == [1, 1]


def test_the_share_grows_by_a_cubic_schedule() -> None:
    _, one = pruner("weights", 0.8, begin_agent_steps=100, end_agent_steps=300)
    found = [one.share(steps) for steps in (0, 100, 200, 300, 1000)]
    np.testing.assert_allclose(found, [0, 0, 0.8 * (1 - 0.125), 0.8, 0.8])


def test_masks_are_taken_when_they_are_due_and_not_after_the_end() -> None:
    made, one = pruner("weights", 0.5, every_learner_steps=10)
    one.advance(50, 0, lambda: None)
    first = one.pruned
    one.advance(60, 9, lambda: None)
    assert one.pruned == first
    one.advance(60, 10, lambda: None)
    assert one.pruned > first
    one.advance(100, 11, lambda: None)  # the end does not wait
    assert one.pruned == 0.5
    masks = {name: mask.clone() for name, mask in one.masks.items()}
    nn.init.uniform_(made[0].weight)
    one.advance(200, 100, lambda: None)
    assert all(torch.equal(masks[name], mask) for name, mask in one.masks.items())


def test_rewinding_brings_the_first_weights_back_where_they_are_left() -> None:
    made, one = pruner("weights", rewind=True)
    first, reset = made[0].weight.detach().clone(), []
    one.advance(0, 0, lambda: reset.append(0))
    with torch.no_grad():
        made[0].weight.add_(torch.randn_like(made[0].weight))
    one.advance(100, 50, lambda: reset.append(1))
    one.apply(made)
    assert reset == [1]
    left = one.masks["0.weight"]
    assert torch.equal(made[0].weight[left], first[left])
    assert (made[0].weight[~left] == 0).all()
    assert one.begun == {}
    one.advance(150, 200, lambda: reset.append(2))
    assert reset == [1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"learner.prune.rewind": True},
        {"learner.target_ema": 0.01, "learner.act_with_target": True, "learner.target_period_learner_steps": 1},
        {"learner.precision": "bf16"},
    ],
    ids=["weights", "rewind", "averaged", "bf16"],
)
def test_a_pruned_run_is_resumed_bit_for_bit_and_what_acts_is_pruned(settings: dict[str, Any], tmp_path: Path) -> None:
    settings = {**TINY, **settings}
    rlsuite.train("classic/dqn", {**settings, "run.agent_steps": 600}, run_dir=tmp_path / "whole")
    rlsuite.train("classic/dqn", {**settings, "run.agent_steps": 300}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 600}, resume=tmp_path / "halves")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    assert differences(whole.weights, halves.weights) == []
    assert differences(whole.state["learner"], halves.state["learner"]) == []
    acting = Saved(tmp_path / "whole").net
    for layer in prunable_names(acting):
        weight = acting.get_parameter(f"{layer}.weight")
        assert (weight == 0).float().mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("resets", [{}, {"learner.resets.every_agent_steps": 290}], ids=["period", "resets"])
def test_an_averaged_net_that_moves_rarely_is_pruned_at_once(resets: dict[str, Any], tmp_path: Path) -> None:
    rare = {"learner.act_with_target": True, "learner.target_ema": 0.5, "learner.target_period_learner_steps": 10_000}
    settings = {**TINY, **rare, **resets, "learner.prune.end_agent_steps": 200, "run.agent_steps": 300}
    rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    acting = Saved(tmp_path / "run").net
    for layer in prunable_names(acting):
        assert (acting.get_parameter(f"{layer}.weight") == 0).float().mean() == pytest.approx(0.75, abs=0.02)


def test_a_net_that_does_not_mark_its_last_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not tell which layers are its last"):
        train("vision/digits", {"learner.prune.share": 0.5, "run.threads": 1}, run_dir=tmp_path / "run")


def prunable_names(net: nn.Module) -> list[str]:
    """As `prunable`, of a net that is not trained."""
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    return list(prunable(net))


def test_pruning_cannot_be_switched_on_in_the_middle(tmp_path: Path) -> None:
    plain = {key: value for key, value in TINY.items() if "prune" not in key}
    rlsuite.train("classic/dqn", {**plain, "run.agent_steps": 300}, run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match=r"learner\.prune\.share 0.* -> 0\.5; .*prune"):
        rlsuite.train(None, {"run.agent_steps": 600, "learner.prune.share": 0.5}, resume=tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learner.prune.share": 1}, r"learner.prune.share = 1.*less than 1"),
        ({"learner.prune.what": "channels"}, "learner.prune.what = channels has no effect without learner.prune.share > 0"),
        ({"learner.prune.share": 0.5, "learner.prune.begin_agent_steps": 100, "learner.prune.end_agent_steps": 50}, "not after"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve("classic/dqn", settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"net.torso": "impala"},
        {"net.torso": "small(norm=layer)"},
        {"net.layer_norm": True, "net.torso": "small"},
        {"agent.noisy": True, "net.torso": "small", "net.layer_norm": False},
        {"agent.name": "iqn", "net.torso": "small", "net.layer_norm": False},
        {"agent.name": "dqn", "agent.spr_weight": 2.0, "net.torso": "small", "net.layer_norm": False},
        {"agent.name": "ppo", "net.separate_value": True, "net.torso": "small", "net.layer_norm": False},
    ],
    ids=["residual", "norm", "layer_norm", "noisy", "iqn", "spr", "separate_value"],
)
def test_channels_that_depend_on_each_other_are_refused(settings: dict[str, Any]) -> None:
    channels = {"learner.prune.share": 0.5, "learner.prune.what": "channels", "run.threads": 1}
    base = (
        "atari/pong_ppo" if settings.get("agent.name") == "ppo" else "atari/pong" if "agent.name" in settings else "atari/pong_pqn"
    )
    config = resolve(base, {**channels, **settings})
    with pytest.raises(UsageError, match=r"learner.prune.what = channels: .*(depend on each other; use net.torso|has 2 backbones)"):
        make_learner(config, make_agent(config, make_spec(config)), torch.device("cpu"))


@pytest.mark.parametrize("kind", ["pqn", "dueling", "ppo", "data_efficient"])
def test_a_pruned_net_becomes_a_smaller_one_that_chooses_alike(kind: str, tmp_path: Path) -> None:
    settings = {**PIXELS, "agent.dueling": True} if kind == "dueling" else PIXELS
    if kind == "data_efficient":
        settings = {**PIXELS, "net.torso": "data_efficient"}
    rlsuite.train("atari/pong_ppo" if kind == "ppo" else "atari/pong_pqn", settings, run_dir=tmp_path / "run")
    found = shrink(tmp_path / "run", tmp_path / "small")
    assert found.torso == ("data_efficient(widths=16-32)" if kind == "data_efficient" else "small(widths=8-16-16)")
    assert found.hidden == 8
    assert found.after.parameters < 0.4 * found.before.parameters
    assert found.largest_difference < 1e-5
    small = Saved(tmp_path / "small")
    assert small.config.net.hidden == 8
    assert small.config.learner.prune.share == 0
    assert rlsuite.evaluate(tmp_path / "small", 1).episodes == 1
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).rglob("weights.safetensors")) for name in ("run", "small")]
    assert sizes[1] < 0.5 * sizes[0]


def test_what_cannot_be_shrunk_is_refused(tmp_path: Path) -> None:
    rlsuite.train("classic/dqn", {**TINY, "run.agent_steps": 200}, run_dir=tmp_path / "vectors")
    with pytest.raises(UsageError, match="torso is a MlpTorso, whose channels depend on each other"):
        shrink(tmp_path / "vectors", tmp_path / "out")
    whole = {key: value for key, value in PIXELS.items() if "prune" not in key} | {"run.agent_steps": 32}
    rlsuite.train("atari/pong_pqn", whole, run_dir=tmp_path / "whole")
    with pytest.raises(UsageError, match=r"no channel that is 0: train it with learner.prune.what=channels"):
        shrink(tmp_path / "whole", tmp_path / "out")
    with pytest.raises(UsageError, match="is a NormalisedTorso"):
        shrink(Path("pretrained:pong"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
