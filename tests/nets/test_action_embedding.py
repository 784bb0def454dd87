"""Vectors of the last action: their file, their way into a net, and what a net does with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, Step
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import build
from rlsuite.nets import action_embedding
from rlsuite.nets.action_embedding import ActionVectors
from rlsuite.nets.memory import FeedForward, LastActionReward, make_core

BOARD = {
    "env.id": "tic_tac_toe",
    "env.opponent": "random",
    "env.num_envs": 2,
    "run.threads": 1,
    "run.collect_agent_steps": 4,
    "run.agent_steps": 16,
    "learner.batch_size": 2,
    "net.hidden": 8,
    "net.memory": "gru",
    "net.memory_size": 8,
    "net.last_action_reward": True,
    "net.action_embedding": 3,
    "agent.minibatches": 1,
    "agent.epochs": 1,
    "eval.episodes": 2,
}


def vectors(rows: int = 9, width: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)


def file(folder: Path, found: Any, game: str | None = "tic_tac_toe") -> Path:
    action_embedding.write(folder / "moves.safetensors", ActionVectors(found, game))
    return folder / "moves.safetensors"


def embedding_of(net: torch.nn.Module) -> torch.Tensor:
    (found,) = [module for module in net.modules() if isinstance(module, LastActionReward)]
    assert found.embedding is not None
    return found.embedding.weight.detach().clone()


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    for game in ("go(size=7,komi=9)", None):
        found = action_embedding.read(file(tmp_path, vectors(), game))
        assert np.array_equal(found.vectors, vectors())
        assert found.game == game


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": np.zeros((9, 3), np.float32)}, "is not a file of rlsuite embed"),
        ({"vectors": np.zeros(9, np.float32)}, r"must be finite float32 \[actions,width\], not float32 \[9\]"),
        ({"vectors": np.zeros((9, 3))}, "not float64"),
        ({"vectors": np.full((9, 3), np.nan, np.float32)}, "must be finite"),
        (None, "is not a file of rlsuite embed"),
    ],
)
def test_other_files_are_refused(tensors: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "moves.safetensors"
    path.write_bytes(b"no tensors") if tensors is None else save_file(tensors, path)
    with pytest.raises(UsageError, match=message):
        action_embedding.read(path)
    with pytest.raises(UsageError, match="cannot read"):
        action_embedding.read(tmp_path / "missing")


def test_a_core_sees_the_vector_of_the_action_before_and_zeros_at_first() -> None:
    spec = EnvSpec((2,), "float32", 4, None, 1, 1)
    core = make_core(NetConfig(last_action_reward=True, action_embedding=3), 2, spec)
    assert isinstance(core, LastActionReward)
    assert isinstance(core.core, FeedForward)
    assert core.embedding is not None
    first = torch.tensor([[True, False], [False, False], [False, True]])  # [T,B]
    action = torch.tensor([[1, 2], [3, 0], [0, 0]])
    step = Step((), torch.zeros(3, 2), first, ~first, ~first, action, {})
    state = (torch.tensor([-1, 3]),)
    out, after = core(torch.ones(3, 2, 2), step, state)
    weight, none = core.embedding.weight, torch.zeros(3)
    expected = [[none, weight[3]], [weight[1], weight[2]], [weight[3], none]]
    assert torch.equal(out[..., 2:5], torch.stack([torch.stack(row) for row in expected]))
    assert after[0].tolist() == [0, 0]
    out.sum().backward()
    assert core.embedding.weight.grad is not None


@pytest.mark.parametrize(
    ("game", "shape", "message"),
    [
        ("othello(size=4)", (9, 3), r"is of othello\(size=4\), not of tic_tac_toe"),
        ("tic_tac_toe", (9, 4), r"holds 9 actions of 4 numbers, this net has 9 of net.action_embedding = 3"),
        (None, (8, 3), "holds 8 actions of 3 numbers"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(game: str | None, shape: tuple[int, int], message: str, tmp_path: Path) -> None:
    path = file(tmp_path, vectors(*shape), game)
    with pytest.raises(UsageError, match=message):
        build(resolve("classic/ppo", BOARD | {"net.torso": "mlp", "net.action_embedding_from": str(path)}))


def test_continuous_actions_have_none() -> None:
    changes = {"net.separate_value": False, "net.last_action_reward": True, "net.action_embedding": 3}
    with pytest.raises(UsageError, match=r"net.action_embedding = 3: these actions are continuous"):
        build(resolve("classic/pendulum_ppo", changes))
    with pytest.raises(UsageError, match=r"action_embedding = 3 has no effect without net.last_action_reward = true"):
        resolve("classic/ppo", {"net.action_embedding": 3})


def test_an_atari_net_learns_its_own() -> None:
    changes = {"net.last_action_reward": True, "net.action_embedding": 4, "net.hidden": 16, "net.memory_size": 8, "env.num_envs": 2}
    parts = build(resolve("atari/r2d2-pong", changes))
    assert embedding_of(parts.learner.online.master).shape == (18, 4)
    parts.close()


@pytest.mark.integration
def test_a_run_begins_with_the_file_changes_it_and_needs_it_no_more(tmp_path: Path) -> None:
    path = file(tmp_path, vectors())
    changes = BOARD | {"net.torso": "mlp", "net.action_embedding_from": str(path)}
    parts = build(resolve("classic/ppo", changes))
    assert np.array_equal(embedding_of(parts.learner.online.master).numpy(), vectors())
    parts.close()
    rlsuite.train("classic/ppo", changes, run_dir=tmp_path / "run")
    path.unlink()
    learned = embedding_of(Saved(tmp_path / "run").net).numpy()
    assert 0 < np.abs(learned - vectors()).max() < 0.1
    rlsuite.train(None, {"run.agent_steps": 32}, resume=tmp_path / "run")
