"""Self-play on boards of several sizes: positions in the arrays of the largest, losses by size, resume, other sizes in play."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences

import rlsuite
from rlsuite.acting.all_sizes import GAME, AllSizes
from rlsuite.agents.alphazero import AlphaZero, AlphaZeroConfig
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Trajectory, describe, to_tensors, tree_map
from rlsuite.evaluation.saved_agent import Saved, board_evaluator
from rlsuite.factories import build
from rlsuite.nets.board_net import BoardNet
from rlsuite.runs import checkpoint

SMALL = {
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "env.num_envs": 6,
    "env.opponent": "random",
    "agent.simulations": 4,
    "agent.eval_simulations": 4,
    "net.torso": "tower(width=8,depth=1)",
    "net.any_size": True,
    "replay.min_agent_steps": 60,
    "replay.capacity_agent_steps": 400,
    "learner.batch_size": 16,
    "eval.episodes": 2,
}
NET = NetConfig(torso="tower(width=8,depth=1)", hidden=16, any_size=True)


def agent_of(name: str, sizes: list[int], **settings: Any) -> AlphaZero:
    spec = describe(rlsuite.make_env(name, num_envs=1, opponent="random", sizes=sizes))
    return AlphaZero(AlphaZeroConfig(name="alphazero", **settings), NET, spec)


def played(agent: AlphaZero, positions: int) -> Any:
    """Steps [K,1,...] of self-play on all sizes."""
    torch.manual_seed(1)
    collector = agent.collector(agent.make_net(), 6, seed=1, device=torch.device("cpu"), bf16=False)
    assert isinstance(collector, AllSizes)
    while not collector.ready(positions // 6):
        collector.advance(1)
    return collector.take().steps


def test_positions_of_smaller_boards_stand_in_the_first_rows_and_places() -> None:
    agent = agent_of("go(size=5,komi=3)", [3, 4, 5], simulations=2, owners_weight=1.5)
    assert [game.name for game in agent.games] == ["go(size=5,komi=3)", "go(size=3,komi=3)", "go(size=4,komi=3)"]
    steps = played(agent, 300)
    number, planes, policy = steps.extras[GAME][:, 0], steps.observation[:, 0], steps.extras["policy"][:, 0]
    assert set(number) == {0, 1, 2}
    for n, game in enumerate(agent.games):
        size, rows = game.observation_shape[1], number == n
        assert not planes[rows, :, size:].any()
        assert not planes[rows, :, :, size:].any()
        assert np.allclose(policy[rows, : game.num_actions].sum(1), 1, atol=1e-5)
        assert not policy[rows, game.num_actions :].any()
        assert not steps.extras["owners"][rows, 0, size * size :].any()
        action = steps.action[rows, 0]
        stones = planes[rows, :2].sum(1)[np.arange(rows.sum()), np.minimum(action // size, size - 1), action % size]
        assert not stones[action < size * size].any()


def test_the_loss_of_a_batch_is_that_of_each_size_by_itself() -> None:
    agent = agent_of("go(size=5,komi=3)", [3, 5], simulations=2, owners_weight=1.5, lead_weight=0.1, symmetries=False)
    steps = tree_map(lambda leaf: leaf.swapaxes(0, 1), played(agent, 600))  # [1,K,...]
    steps = to_tensors(steps, torch.device("cpu"))
    net = agent.make_net()
    whole = agent.loss(net, net, Trajectory(steps, ()), torch.Generator()).loss
    small = steps.extras[GAME][0] == 1
    assert 0 < small.sum() < len(small)
    alone = agent_of("go(size=3,komi=3)", [], owners_weight=1.5, lead_weight=0.1, symmetries=False)
    extras = {name: leaf[:, small] for name, leaf in steps.extras.items() if name != GAME}
    extras |= {"policy": extras["policy"][..., :10], "owners": extras["owners"][..., :9]}
    cut = steps._replace(observation=steps.observation[:, small, :, :3, :3], extras=extras)
    assert torch.allclose(whole[small], alone.loss(net, net, Trajectory(cut, ()), torch.Generator()).loss, atol=1e-6)


def test_a_net_of_any_size_knows_no_size() -> None:
    agent = agent_of("hex(size=5)", [4, 5])
    net = agent.make_net()
    assert isinstance(net, BoardNet)
    for size in (4, 5, 8):
        output = net.evaluate(torch.zeros(3, agent.spec.observation_shape[0], size, size, dtype=torch.int8))
        assert output.logits.shape == (3, size * size)
        assert output.value.shape == (3,)


@pytest.mark.parametrize("torso", ["tower(width=8,depth=1)", "graph(width=8,depth=1)"])
def test_resumed_self_play_on_all_sizes_equals_uninterrupted_and_plays_other_sizes(torso: str, tmp_path: Path) -> None:
    settings = {**SMALL, "env.id": "hex(size=4)", "env.sizes": [3, 4], "net.torso": torso}
    half = {**settings, "run.agent_steps": 200, "learner.learning_rate_anneal_agent_steps": 400}
    rlsuite.train("boards/hex", half, run_dir=tmp_path / "halves")
    whole = {**settings, "run.agent_steps": 400, "learner.learning_rate_anneal_agent_steps": 400}
    rlsuite.train("boards/hex", whole, run_dir=tmp_path / "whole")
    rlsuite.train(None, {"run.agent_steps": 400}, resume=tmp_path / "halves")
    one, other = (checkpoint.load(checkpoint.find(tmp_path / name, resumable=True)) for name in ("whole", "halves"))
    for part in ("collector", "replay", "learner"):
        assert not differences(one.state[part], other.state[part], part)
    saved = Saved(tmp_path / "halves")
    game = rlsuite.make_game("hex(size=6)")
    found = rlsuite.search(game, game.new_state(), rlsuite.load(tmp_path / "halves"), simulations=8)
    assert len(found.policy) == 36
    with pytest.raises(UsageError, match=r"also played hex\(size=3\), not hex\(size=2\)"):
        rlsuite.train(None, {"env.sizes": [2, 4]}, resume=tmp_path / "halves")
    with pytest.raises(UsageError, match="not othello"):
        board_evaluator(saved, rlsuite.make_game("othello"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"env.sizes": [4, 5]}, "the largest must be the size of env.id"),
        ({"env.sizes": [4, 6], "net.any_size": False}, "needs net.any_size = true"),
        ({"env.id": "connect_four", "env.sizes": [], "net.any_size": True}, "are not its cells and a pass"),
        ({"env.id": "connect_four", "env.sizes": [4]}, "has only one size"),
        ({"env.sizes": [4, 4, 6]}, "name each size once"),
        ({"env.sizes": [4, 5, 6], "env.num_envs": 2}, "needs 3 at least"),
        ({"env.sizes": [0, 6]}, "hex: size 0"),
        ({"env.sizes": [4, 6], "runtime.kind": "ray", "runtime.inference": "server"}, "answers boards of one size"),
        ({"env.sizes": [4, 6], "learner.cuda_graphs": True, "run.device": "cuda"}, "boards of one size"),
    ],
)
def test_impossible_sizes_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(resolve("boards/hex", {**SMALL, **overrides}))
