"""AlphaGo's parts by hand, its three stages end to end, and a stop in each of them."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlsuite
from rlsuite.agents.alphago import rollouts
from rlsuite.agents.alphago.games import NO_MOVE, Expert, PoolPlay, ValuePlay, drawn
from rlsuite.agents.alphago.rollouts import FAR, PATTERNS, Rollouts, nearness, patterns, playouts
from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.envs.boards.go import points_of
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.runs import checkpoint
from rlsuite.runtime.signals import Stop
from rlsuite.search.random import uniform

SMALL = {
    "env.id": "go(size=5,komi=0.5)",
    "env.num_envs": 8,
    "env.opponent": "random",
    "net.torso": "tower(width=8,depth=1)",
    "net.hidden": 8,
    "learner.batch_size": 16,
    "learner.precision": "fp32",
    "run.threads": 1,
    "run.collect_agent_steps": 2,
    "eval.episodes": 2,
    "agent.records_from_move": 0,
    "agent.latest_random_move": 12,
    "agent.eval_simulations": 4,
    "stages.policy.replay": {"capacity_agent_steps": 500, "min_agent_steps": 50, "samples_per_insert": 4},
    "stages.policy.run": {"agent_steps": 400},
    "stages.reinforced.agent": {"stage": "reinforced", "eval_simulations": 0, "pool_learner_steps": 2, "pool_size": 3},
    "stages.reinforced.replay": {"capacity_agent_steps": 500, "min_agent_steps": 50, "samples_per_insert": 1},
    "stages.reinforced.learner": {"batch_size": 16},
    "stages.reinforced.run": {"agent_steps": 300},
    "stages.value.replay": {"capacity_agent_steps": 500, "min_agent_steps": 16, "samples_per_insert": 4},
    "stages.value.run": {"agent_steps": 60},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of random games on 5x5."""
    place, game, rng = tmp_path_factory.mktemp("records"), make_game("go(size=5,komi=0.5)"), np.random.default_rng(0)
    for number in range(12):
        state, actions = game.new_state(), list[int]()
        while not state.is_terminal() and len(actions) < 30:
            actions.append(int(rng.choice(state.legal_actions())))
            state = state.apply(actions[-1])
        game_records.write(place / f"{number:02d}.sgf", game, actions, ("a", "b"))
    return place


def test_patterns_are_those_of_the_board() -> None:
    """Torch and numba agree on every point; a stone in atari and the edge have numbers of their own."""
    game = make_game("go(size=5,komi=0.5)")
    state, rng = game.new_state(), np.random.default_rng(1)
    for _ in range(14):
        state = state.apply(int(rng.choice(state.legal_actions()[:-1])))
    planes = torch.from_numpy(state.observation())[None]
    cells = np.full(21 * 21, 5, np.int8)
    own, other, atari = (planes[0, i].numpy() for i in range(3))
    for point in range(25):
        y, x = divmod(point, 5)
        cells[(y + 1) * 7 + x + 1] = own[y, x] * (1 + atari[y, x]) + other[y, x] * (3 + atari[y, x])
    assert atari.any()
    found = patterns(planes)[0].tolist()
    assert found == [rollouts._pattern(cells, 7, (point // 5 + 1) * 7 + point % 5 + 1) for point in range(25)]
    assert 0 <= min(found) < max(found) < PATTERNS
    empty = patterns(torch.zeros(1, 5, 5, 5, dtype=torch.int8))[0].view(5, 5)
    assert len(set(empty[1:4, 1:4].flatten().tolist())) == 1
    assert len(set(empty.flatten().tolist())) == 9  # the centre, four sides, four corners


def test_nearness_is_counted_from_the_last_move() -> None:
    near = nearness(torch.tensor([12, NO_MOVE, 25]), 5)
    assert near[0].view(5, 5).flatten().tolist() == list(range(25))  # from the centre every point is near
    assert (near[1:] == FAR).all()
    assert nearness(torch.tensor([0]), 5)[0].view(5, 5)[3:].eq(FAR).all()
    for last in range(25):
        assert nearness(torch.tensor([last]), 5)[0].tolist() == [rollouts._near(point, last, 5) for point in range(25)]


def test_rollouts_play_by_their_weights_and_the_rules() -> None:
    game = make_game("go(size=5,komi=0.5)")
    weights = Rollouts().weights()
    weights.near[:] = 0.001
    weights.near[7] = 1000.0  # one row above the last move
    state = game.new_state().apply(22)
    streams = np.arange(1, 2, dtype=np.uint64)
    assert {rollouts.draw(state.row, 22, weights, streams, 0) for _ in range(20)} == {17}
    even = Rollouts().weights()
    for seed in range(20):
        row, last, moves = game.new_state().row, NO_MOVE, 0
        streams = np.array([seed], np.uint64)
        uniform(streams, 0)
        while not row[3]:
            legal = np.empty(26, np.int32)
            last = rollouts.draw(row, last, even, streams, 0)
            assert last in legal[: game.rules.legal(row, legal)]
            game.rules.play(row, last)
            moves += 1
        assert (points_of(row) > 0).sum() > 12  # played to the end: only eyes are left


def test_an_eye_is_not_filled() -> None:
    game = make_game("go(size=3,komi=0.5)")
    state = game.parse_state(".x.\nxxx\n.x.\nx to play")
    assert rollouts.draw(state.row, NO_MOVE, Rollouts().weights(), np.ones(1, np.uint64), 0) == 9  # a pass
    values, moves = np.empty(2, np.float32), 0
    rows = np.stack([state.row, state.row])
    rows[1, 1] = 1  # White to move, who has no legal move but a pass
    moves = playouts(game.rules.play)(rows, np.full(2, NO_MOVE), np.arange(2).astype(np.uint64), Rollouts().weights(), values)
    assert values.tolist() == [1.0, -1.0]
    assert moves == 4


def test_moves_are_drawn_from_the_policy() -> None:
    rng = np.random.default_rng(0)
    logits = np.log(np.array([[0.5, 0.3, 0.2, 7.0]], np.float32)).repeat(20_000, 0)
    legal = np.array([[True, True, True, False]]).repeat(20_000, 0)
    actions, log_p = drawn(logits, legal, rng)
    assert np.bincount(actions, minlength=4) / 20_000 == pytest.approx([0.5, 0.3, 0.2, 0], abs=0.015)
    assert np.exp(log_p[actions == 1]) == pytest.approx(0.3)


def test_records_are_split_by_game_and_keep_the_last_move(folder: Path) -> None:
    game = make_game("go(size=5,komi=0.5)")
    learned, tested = Expert.read(str(folder), game, 3, 0.25)
    games = [game_records.read(path, game).actions for path in sorted(folder.glob("*.sgf"))]
    assert len(tested.action) == sum(len(actions) - 3 for actions in games[3::4])
    assert len(learned.action) + len(tested.action) == sum(len(actions) - 3 for actions in games)
    assert learned.action[:5].tolist() == games[0][3:8]
    assert learned.last[:5].tolist() == games[0][2:7]
    state = game.new_state()
    for action in games[0][:3]:
        state = state.apply(action)
    assert (learned.planes[0] == state.observation()).all()
    with pytest.raises(UsageError, match="no records"):
        Expert.read(str(folder.parent / "nothing"), game, 0, 0.1)
    with pytest.raises(UsageError, match=r"12 left out: another size .*00\.sgf is a game of go of size 5, not of go\(size=7"):
        Expert.read(str(folder), make_game("go(size=7)"), 0, 0.1)


def test_bad_records_are_left_out_and_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    game = make_game("go(size=5,komi=0.5)")
    for path in folder.glob("*.sgf"):
        (tmp_path / path.name).with_suffix(".SGF").write_bytes(path.read_bytes())  # in capitals
    (tmp_path / "a.sgf").write_text("(;GM[1]SZ[5];B[cc];AB[aa])")
    (tmp_path / "b.sgf").write_text("(;GM[1]SZ[5];B[cc];AB[bb])")
    (tmp_path / "c.sgf").write_text("(;GM[1]SZ[9];B[cc])")
    (tmp_path / "d.sgf").write_text("(;GM[1]SZ[5]HA[2]AB[aa][bb];W[cc];B[dd])")  # is read, from its position
    (tmp_path / "e.sgf").write_text("(;GM[1]SZ[5];B[cc];W[];B[];W[cd])")
    (tmp_path / "f.sgf").write_text("(;GM[1]SZ[5];B[cc])(;GM[1]SZ[5];B[cc];W[cd])")
    (tmp_path / "README.txt").write_text("not a record")
    learned, tested = Expert.read(str(tmp_path), game, 0, 0)
    assert not len(tested.action)
    known, _ = Expert.read(str(folder), game, 0, 0)
    assert len(learned.action) == len(known.action) + 2 + 3 + 3
    from_handicap = len(known.action)
    assert learned.action[from_handicap : from_handicap + 2].tolist() == [12, 18]
    assert learned.planes[from_handicap, 1].sum() == 2  # Black's stones, as White sees them
    assert capsys.readouterr().err.splitlines() == [
        f"rlsuite: records in {tmp_path}: 2 left out: stones set up in mid-game "
        f"(the first: {tmp_path}/a.sgf: stones are set up after move 1)",
        f"rlsuite: records in {tmp_path}: 1 left out: another size "
        f"(the first: {tmp_path}/c.sgf is a game of go of size 9, not of go(size=5,komi=0.5))",
        f"rlsuite: records in {tmp_path}: 1 read with a change: the moves after the end of the game are left out "
        f"(the first: {tmp_path}/e.sgf)",
    ]


class Uniform(torch.nn.Module):
    """A policy net whose logits are all equal, with a weight that identifies it."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = torch.nn.Parameter(torch.zeros(1))


def uniform_policy(net: Any) -> Any:
    return lambda planes: np.zeros((len(planes), 26), np.float32)


def test_the_pool_grows_periodically_and_only_the_learners_moves_are_collected() -> None:
    game, net = make_game("go(size=5,komi=0.5)"), Uniform()
    play = PoolPlay(8, game, 1, net, uniform_policy, every=10, size=3)
    seen, outcomes = 0, list[float]()
    for version in range(0, 60, 6):
        play.version = version
        with torch.no_grad():
            net.mark.fill_(version)
        ended = 0
        while ended < 8:  # all environments
            moved, episodes = play.advance(0)
            ended += len(episodes)
            seen += moved
            outcomes += [episode.episodic_return for episode in episodes]
    unroll = play.take()
    assert unroll.steps.action.shape == (seen, 1)
    assert unroll.steps.extras["log_prob"].max() <= 0
    marks = [float(entry["mark"]) for entry in play.pool]
    assert len(marks) == 3
    assert all(b - a >= 10 for a, b in itertools.pairwise(marks))
    black = unroll.steps.observation[:, 0, 3].any((1, 2))  # the plane that is 1 if Black is to move
    assert 0.4 < black.mean() < 0.6  # the learner plays both sides
    assert set(unroll.steps.extras["outcome"].reshape(-1).tolist()) <= {-1.0, 1.0}
    assert play.diagnostics()["selfplay/score_against_pool"] == pytest.approx((1 + np.mean(outcomes)) / 2)


def test_each_game_yields_the_position_after_the_random_move() -> None:
    """The supervised policy plays before move U, the reinforced one after it; the outcome is for the player to move."""
    game, calls = make_game("go(size=5,komi=0.5)"), {"first": 0, "second": 0}

    def policy(name: str) -> Any:
        def logits_of(planes: Any) -> Any:
            calls[name] += len(planes)
            logits = np.zeros((len(planes), 26), np.float32)
            logits[:, 25] = -20.0 if name == "first" else 20.0  # the second one passes at once
            return logits

        return logits_of

    play = ValuePlay(8, game, 1, policy("first"), policy("second"), latest=9)
    given = 0
    while given < 200:
        given += play.advance(0)[0]
    unroll = play.take()
    stones = unroll.steps.observation[:, 0, :2].sum((1, 2, 3))
    assert stones.min() >= 0
    assert stones.max() <= 9  # U moves at most
    assert 3 < stones.mean() < 6
    assert calls["second"] <= 2 * (given + 8) + 40  # two passes end a game
    for planes, z in zip(unroll.steps.observation[:50, 0], unroll.steps.extras["outcome"][:50, 0], strict=True):
        own, other = planes[0].sum(), planes[1].sum()
        assert z in (-1.0, 1.0)
        if other == 0 and own > 1:
            assert z == 1.0
    assert 0 <= play.diagnostics()["selfplay/outcome_variance"] <= 1


@pytest.mark.integration
def test_three_stages_make_an_agent_that_plays(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = rlsuite.train("boards/alphago", {**SMALL, "agent.records": str(folder)}, run_dir=run)
    assert result.run == run
    assert result.evaluation is not None
    places = [run / name for name in ("1_policy", "2_reinforced", "3_value")]
    nets = [Saved(place).net.state_dict() for place in places]
    for name in nets[0]:
        part = name.split(".")[0]
        same = [torch.equal(a[name], b[name]) for a, b in itertools.pairwise(nets)]
        if part in ("policy", "rollouts"):
            assert same == [True, True], name
        if name == "reinforced.policy.weight":
            assert same == [False, True]
        if name == "value.outcome.weight":
            assert same == [True, False]
    rows = [json.loads(line) for line in (places[0] / "metrics.jsonl").read_text().splitlines()]
    assert any("test/policy_accuracy" in row for row in rows)
    agent = rlsuite.load(run)  # the folder of all stages loads as the last stage's agent
    game = make_game("go(size=5,komi=0.5)")
    found = rlsuite.search(game, game.new_state(), agent, simulations=8)
    assert found.action in game.new_state().legal_actions()
    assert "1_policy" in str(Saved(places[0]).path)


@pytest.mark.integration
@pytest.mark.parametrize("stage", ["1_policy", "2_reinforced", "3_value"])
def test_a_stop_in_any_stage_changes_nothing(stage: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of a stage and resumed: the weights equal those of an uninterrupted run, bit for bit."""
    from rlsuite.runtime import local

    settings = {**SMALL, "agent.records": str(folder)}
    rlsuite.train("boards/alphago", settings, run_dir=tmp_path / "whole")
    train_loop, count = local.train_loop, {"calls": 0}

    def stopping(parts: Any, loop: Any, progress: Any, stopped: Stop) -> bool:
        if loop.run_dir.name == stage and count["calls"] == 0:
            count["calls"] = 1
            advance, half = parts.collector.advance, loop.config.run.agent_steps / 2

            def counted(agent_steps: int) -> Any:
                if agent_steps >= half:
                    stopped.append(2)
                return advance(agent_steps)

            monkeypatch.setattr(parts.collector, "advance", counted)
        return train_loop(parts, loop, progress, stopped)

    monkeypatch.setattr(local, "train_loop", stopping)
    first = rlsuite.train("boards/alphago", settings, run_dir=tmp_path / "parts")
    assert first.interrupted
    assert rlsuite.train(None, resume=tmp_path / "parts").evaluation is not None
    whole, parts = (
        checkpoint.load(checkpoint.find(tmp_path / name / "3_value"), weights_only=True).weights for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "agent.records = null: agent.stage = policy learns from game records"),
        ({"agent.records": "nowhere"}, "no records"),
        ({"agent.records": "RECORDS", "agent.records_from_move": 99}, "agent.records_from_move = 99 leaves no position"),
        ({"env.id": "hex(size=5)"}, "plays Go"),
        ({"stages.policy.leaner": {}}, "did you mean learner"),
        (
            {"stages.value.learner": {"batch_sise": 3}},
            "stages.value: unknown key learner.batch_sise; did you mean learner.batch_size",
        ),
        ({"stages": {}}, "stages: 0 of them"),
    ],
)
def test_impossible_settings_are_refused_before_anything_starts(
    settings: dict[str, Any], complaint: str, folder: Path, tmp_path: Path
) -> None:
    settings = {key: str(folder) if value == "RECORDS" else value for key, value in settings.items()}
    with pytest.raises(UsageError, match=complaint):
        rlsuite.train("boards/alphago", {**SMALL, **settings}, run_dir=tmp_path / "run")
    assert not list(tmp_path.glob("run/*/checkpoints"))


def test_init_from_loads_all_weights_of_another_run(tmp_path: Path) -> None:
    """Equal before the first step; refused if the net is a different one."""
    first = rlsuite.train(
        "classic/dqn", {"run.agent_steps": 300, "replay.min_agent_steps": 200, "eval.episodes": 1}, run_dir=tmp_path / "a"
    )
    given = {
        "net.init_from": str(first.run),
        "run.agent_steps": 100,
        "replay.min_agent_steps": 1000,
        "eval.episodes": 1,
        "seed": 9,
    }
    given |= {"replay.capacity_agent_steps": 2000}
    rlsuite.train("classic/dqn", given, run_dir=tmp_path / "b")
    one, other = Saved(tmp_path / "a").net.state_dict(), Saved(tmp_path / "b").net.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(rlsuite.core.errors.RlsuiteError):
        rlsuite.train("classic/dqn", {**given, "net.hidden": 33}, run_dir=tmp_path / "c")


def test_the_reinforced_policy_starts_as_the_supervised_one() -> None:
    from rlsuite.config.loader import resolve
    from rlsuite.factories import describe, make_agent, make_env, make_learner
    from rlsuite.runtime.stages import split

    config = split(resolve("boards/alphago", SMALL), Path())[1][1]
    config = config.model_copy(update={"net": config.net.model_copy(update={"init_from": None})})
    learner = make_learner(config, make_agent(config, describe(make_env(config))), torch.device("cpu"))
    nets: Any = learner.net
    one, other = nets.policy.state_dict(), nets.reinforced.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(torch.equal(nets.value.state_dict()[name], one[name]) for name in one if name.endswith("policy.weight"))
