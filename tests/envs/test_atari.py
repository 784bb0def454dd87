"""Atari: ids, our stacks against ale-py's own, protocols, time limits, lost lives, and the colour twin of a game."""

import csv
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from pydantic import ValidationError

from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.types import describe
from rlsuite.envs import atari_game, family, known_ids
from rlsuite.envs.atari import ColourTwin, Config, StackedAtari, make


def games57() -> list[str]:
    lines = (files("rlsuite") / "data" / "atari57.csv").read_text().splitlines()
    return [row["game"] for row in csv.DictReader(line for line in lines if not line.startswith("#"))]


def camel(rom: str) -> str:
    """ale-py's own naming of its Gymnasium ids."""
    return "".join(word.capitalize() for word in rom.split("_"))


@pytest.mark.parametrize(
    ("env_id", "game"),
    [
        ("ALE/Pong-v5", "pong"),
        ("PongNoFrameskip-v4", "pong"),
        ("Pong-v4", "pong"),
        ("PongDeterministic-v4", "pong"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("MsPacmanNoFrameskip-v4", "ms_pacman"),
        ("ALE/MontezumaRevenge-v5", "montezuma_revenge"),
        ("ALE/Qbert-v5", "qbert"),
        ("ALE/UpNDown-v5", "up_n_down"),
        ("UpNDownNoFrameskip-v4", "up_n_down"),
    ],
)
def test_ids_resolve_to_their_rom(env_id: str, game: str) -> None:
    assert atari_game(env_id) == game
    assert family(env_id) == "rlsuite.envs.atari"


@pytest.mark.parametrize("game", games57())
def test_all_57_games_resolve_to_roms(game: str) -> None:
    assert atari_game(f"ALE/{camel(game)}-v5") == game
    assert atari_game(f"{camel(game)}NoFrameskip-v4") == game
    assert f"ALE/{camel(game)}-v5" in known_ids()
    assert roms.get_rom_path(game) is not None


def test_there_are_57_games() -> None:
    assert len(set(games57())) == len(games57()) == 57


@pytest.mark.parametrize(
    "env_id",
    [
        "ALE/Pong-v4",
        "Pong-v5",
        "PongNoFrameskip-v5",
        "ALE/PongNoFrameskip-v5",
        "ALE/PongDeterministic-v5",
        "ALE/pong-v5",
        "ALE/Pong",
        "ALE/Pong-v5 ",
        "ALE/Pong-ram-v5",
        "Pong-ramNoFrameskip-v4",
        "ALE/Pingpong-v5",
        "ALE/MSPacman-v5",
        "ALE/-v5",
        "",
    ],
)
def test_ids_that_are_not_atari_games(env_id: str) -> None:
    assert atari_game(env_id) is None
    assert family(env_id) != "rlsuite.envs.atari"


def test_an_unknown_id_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"env.id 'ALE/Pnog-v5'; did you mean ALE/Pong-v5"):
        registry.envs.get("ALE/Pnog-v5")


@pytest.mark.parametrize(
    "change",
    [{"num_envs": 0}, {"stack": 0}, {"height": 211}, {"frame_skip": 0}, {"protocol": "stiky"}, {"lifes": 1}, {"max_frames": 0}],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config(id="ALE/Pong-v5", **change)


def test_specs() -> None:
    spec = describe(make(Config(id="ALE/Breakout-v5"), 2))
    assert spec._asdict() == {
        "observation_shape": (4, 84, 84),
        "observation_dtype": "uint8",
        "num_actions": 4,
        "num_states": None,
        "stack": 4,
        "frames_per_step": 4,
        "action_shape": (),
        "action_dtype": "int64",
        "game": None,
        "has_pictures": True,
        "info_keys": (),
        "more_games": (),
        "observation_space": None,
        "action_space": None,
        "picture": None,
    }
    full = describe(make(Config(id="ALE/Breakout-v5", full_action_set=True, stack=2, frame_skip=3, height=40, width=42), 1))
    assert (full.num_actions, full.stack, full.frames_per_step) == (18, 2, 3)
    assert full.observation_shape == (2, 40, 42)


Tick = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


def play(env: Any, ticks: int, seed: int = 7, actions: int = 0) -> Iterator[Tick]:
    """The reset as a first tick, then `ticks` steps of random actions, which depend on the seed `actions` alone."""
    rng = np.random.default_rng(actions)
    observation, info = env.reset(seed=seed)
    no = np.zeros(env.num_envs, bool)
    yield observation, np.zeros(env.num_envs, np.float32), no, no, info
    for _ in range(ticks):
        yield env.step(rng.integers(env.single_action_space.n, size=env.num_envs))


CASES = {
    "breakout, fire": {"id": "ALE/Breakout-v5", "max_frames": 130, "fire_reset": True},
    "breakout, lives": {"id": "ALE/Breakout-v5", "life_loss": True},
    "pacman, sticky": {"id": "ALE/MsPacman-v5", "protocol": "sticky", "max_frames": 200},
    "pong, 2 planes of 60x50": {"id": "ALE/Pong-v5", "stack": 2, "height": 60, "width": 50, "max_frames": 90},
    "freeway, 3 planes, every 2nd frame": {"id": "ALE/Freeway-v5", "stack": 3, "frame_skip": 2, "max_frames": 31},
    "qbert, single planes": {"id": "ALE/Qbert-v5", "stack": 1, "max_frames": 100, "full_action_set": True},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_emulators_own_vector_env(case: str) -> None:
    """ale-py stacks planes in C++, we stack single planes: both are equal bit for bit, over random actions and resets."""
    config, num_envs, ticks = Config.model_validate(CASES[case]), 2, 110
    sticky = config.protocol == "sticky"
    theirs = AtariVectorEnv(
        atari_game(config.id) or "",
        num_envs,
        num_threads=1,
        max_num_frames_per_episode=config.max_frames,
        repeat_action_probability=0.25 if sticky else 0.0,
        full_action_space=config.full_action_set,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        img_height=config.height,
        img_width=config.width,
        stack_num=config.stack,
        frameskip=config.frame_skip,
        noop_max=0 if sticky else 30,
        use_fire_reset=config.fire_reset,
        reward_clipping=False,
    )
    ends = 0
    rng = np.random.default_rng(0)
    ours = make(config, num_envs)
    for seed in (5, 1234):  # the second reset falls within episodes
        seen, expected = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
        assert np.array_equal(seen, expected)
        for tick in range(ticks):
            actions = rng.integers(theirs.single_action_space.n, size=num_envs)
            seen, *rest, info = ours.step(actions)
            expected, *expected_rest, expected_info = theirs.step(actions)
            assert np.array_equal(seen, expected), f"tick {tick}"
            for a, b in zip(rest, expected_rest, strict=True):
                assert np.array_equal(a, b), f"tick {tick}"
            assert np.array_equal(info["lives"], expected_info["lives"])
            ends += int((rest[1] | rest[2]).sum())
    assert seen.dtype == np.uint8
    assert rest[0].dtype == np.float32
    assert ends > 0 or case == "breakout, lives"


def test_returned_observations_do_not_change_later() -> None:
    """A step may be kept while the environment continues."""
    ticks = list(play(make(Config(id="ALE/Pong-v5", max_frames=40), 2), 15))
    again = play(make(Config(id="ALE/Pong-v5", max_frames=40), 2), 15)
    for kept, fresh in zip(ticks, again, strict=True):
        for a, b in zip(kept[:4], fresh[:4], strict=True):
            assert np.array_equal(a, b)
    assert np.moveaxis(ticks[5][0], 1, -1).flags.c_contiguous  # channels_last, as convolutions want it


def test_the_final_observation_is_a_step_and_the_next_one_is_first() -> None:
    """NEXT_STEP: the step after an end ignores the action and returns reward 0 and a stack without history."""
    env = make(Config(id="ALE/Breakout-v5", max_frames=48, noop_max=0), 2)
    start = env.reset(seed=1)[0]
    ended = 0
    before = start
    for tick in range(1, 40):
        observation, reward, terminated, truncated, _ = env.step(np.full(2, 1))
        if tick % 13 == 12:  # 12 steps of 4 frames, then one for the reset
            assert truncated.all()
            assert not terminated.any()
            assert np.array_equal(observation[:, :-1], before[:, 1:])  # it belongs to the old episode
            ended += 1
        elif tick % 13 == 0:
            assert (reward == 0).all()
            assert not (terminated | truncated).any()
            assert (observation[:, :-1] == 0).all()
            assert np.array_equal(observation, start)  # without no-ops, the same game starts again
        else:
            assert not (terminated | truncated).any()
        before = observation
    assert ended == 3


@pytest.mark.parametrize(
    ("max_frames", "frame_skip", "steps"), [(400, 4, 100), (401, 4, 101), (404, 4, 101), (30, 1, 30), (31, 3, 11)]
)
def test_the_time_limit_counts_emulator_frames(max_frames: int, frame_skip: int, steps: int) -> None:
    """Emulator frames after the no-ops, not agent steps; the end is a truncation."""
    env = make(Config(id="ALE/Pong-v5", max_frames=max_frames, frame_skip=frame_skip, noop_max=0), 1)
    frames_seen = 0
    for tick, (_, _, terminated, truncated, info) in enumerate(play(env, steps)):
        assert truncated.tolist() == [tick == steps]
        assert not terminated.any()
        frames_seen = int(info["episode_frame_number"][0])
    assert frames_seen == max_frames


def test_a_game_over_is_terminated_and_not_truncated() -> None:
    env = make(Config(id="ALE/Breakout-v5", fire_reset=True), 2)
    ends = 0
    for _, _, terminated, truncated, info in play(env, 400):
        assert not truncated.any()
        assert (info["lives"][terminated] == 0).all()
        ends += int(terminated.sum())
    assert ends > 0


def test_a_lost_life_is_terminal_while_the_game_continues() -> None:
    """`info["terminal"]` against the number of lives; the game itself and its ends are the same as without life_loss."""
    plain = play(make(Config(id="ALE/Breakout-v5"), 3), 300)
    signal = play(make(Config(id="ALE/Breakout-v5", life_loss=True), 3), 300)
    lives, fresh = np.zeros(3, int), np.ones(3, bool)
    lost_alive = over = 0
    for tick, (a, b) in enumerate(zip(plain, signal, strict=True)):
        for left, right in zip(a[:4], b[:4], strict=True):
            assert np.array_equal(left, right)
        assert "terminal" not in a[4]
        left_now = b[4]["lives"]
        if tick:
            expected = ((left_now < lives) & ~fresh) | b[2]
            assert np.array_equal(b[4]["terminal"], expected), f"tick {tick}"
            lost_alive += int((b[4]["terminal"] & ~b[2]).sum())
            over += int(b[2].sum())
        fresh, lives = b[2] | b[3], left_now.copy()
    assert lost_alive >= 8
    assert over >= 2


def test_a_game_without_lives_reports_no_life_loss() -> None:
    env = make(Config(id="ALE/Freeway-v5", life_loss=True, max_frames=80), 2)
    ticks = list(play(env, 60))[1:]
    assert sum(int(t[3].sum()) for t in ticks) > 2
    assert not any(t[4]["terminal"].any() for t in ticks)


class Scripted:
    """Replaces the emulator for one environment: lives and ends are those of a script."""

    def __init__(self, script: list[tuple[int, bool, bool]]):
        self.script = iter(script)

    def reset(self, seed: Any = None) -> Any:
        return np.zeros((1, 1, 84, 84), np.uint8), {"lives": np.array([next(self.script)[0]])}

    def send(self, actions: NDArray[np.int64]) -> None:
        assert actions.shape == (1,)

    def recv(self) -> Any:
        lives, terminated, truncated = next(self.script)
        ends = np.array([terminated]), np.array([truncated])
        return np.zeros((1, 1, 84, 84), np.uint8), np.zeros(1), *ends, {"lives": np.array([lives])}


@pytest.mark.parametrize(
    ("script", "terminal"),
    [
        # (lives, terminated, truncated) by tick; the first is the reset
        ([(3, 0, 0), (2, 0, 0), (2, 0, 0), (1, 0, 0), (0, 1, 0), (3, 0, 0)], [1, 0, 1, 1, 0]),
        (
            [(3, 0, 0), (4, 0, 0), (4, 0, 1), (3, 0, 0), (2, 0, 0)],
            [0, 0, 0, 1],
        ),  # a bonus life, then a time limit: 4 -> 3 is not a lost life
        ([(3, 0, 0), (3, 1, 0), (2, 0, 0), (2, 0, 0)], [1, 0, 0]),  # game over with lives left
        ([(0, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 0)], [0, 1, 0]),  # a game without lives, such as Pong
        ([(3, 0, 0), (2, 0, 1), (3, 0, 0)], [1, 0]),  # a life lost at the time limit: the value is 0
    ],
)
def test_terminal_by_hand(script: list[tuple[int, bool, bool]], terminal: list[int]) -> None:
    env = make(Config(id="ALE/Breakout-v5", life_loss=True), 1)
    env.planes = Scripted([(lives, bool(over), bool(cut)) for lives, over, cut in script])
    env.reset()
    got = [int(env.step(np.zeros(1, np.int64))[4]["terminal"][0]) for _ in terminal]
    assert got == terminal


def frames(config: Config, seed: int = 7, num_envs: int = 2, ticks: int = 40) -> NDArray[np.uint8]:
    """The newest planes of a random game, [ticks+1,L,H,W]."""
    return np.stack([tick[0][:, -1] for tick in play(make(config, num_envs), ticks, seed)])


def test_the_seed_determines_the_games() -> None:
    for protocol in ("classic", "sticky"):
        config = Config(id="ALE/Seaquest-v5", protocol=protocol)
        once = frames(config)
        assert np.array_equal(once, frames(config))
        assert not np.array_equal(once, frames(config, seed=100))
        assert not np.array_equal(once[:, 0], frames(config, seed=100)[:, 1])


def test_sticky_actions_change_the_game() -> None:
    """Without no-ops both protocols start the same, until an action is repeated."""
    classic = frames(Config(id="ALE/MsPacman-v5", noop_max=0), ticks=100)
    sticky = frames(Config(id="ALE/MsPacman-v5", protocol="sticky"), ticks=100)
    assert np.array_equal(classic[0], sticky[0])  # sticky has no no-ops
    assert not np.array_equal(classic, sticky)


def test_no_op_starts_differ_between_environments_and_episodes() -> None:
    env = make(Config(id="ALE/MsPacman-v5", max_frames=8), 6)
    frame = [tick[4]["episode_frame_number"] for tick in play(env, 6)]
    starts = np.stack([frame[0], frame[3], frame[6]])  # reset, two steps, reset, two steps, reset
    assert (starts <= 30).all()
    assert (starts >= 0).all()
    assert len(set(starts[0].tolist())) > 2
    assert not np.array_equal(starts[0], starts[1])
    still = make(Config(id="ALE/MsPacman-v5", max_frames=8, noop_max=0), 3)
    first = still.reset(seed=3)[0]
    assert (first == first[:1]).all()


def test_partial_resets_are_refused() -> None:
    env = make(Config(id="ALE/Pong-v5"), 1)
    with pytest.raises(ValueError, match="partial resets"):
        env.reset(options={"reset_mask": np.ones(1, bool)})


def test_a_list_of_seeds_seeds_each_environment() -> None:
    env = make(Config(id="ALE/MsPacman-v5"), 2)
    one = env.reset(seed=[4, 9])[0]
    assert np.array_equal(env.reset(seed=9)[0][0], one[1])
    assert np.array_equal(env.reset(seed=4)[0][0], one[0])


@pytest.mark.parametrize(
    "more",
    [{"max_frames": 400}, {"protocol": "sticky", "max_frames": 400}, {"fire_reset": True}],
    ids=["classic", "sticky", "fire"],
)
def test_the_colour_twin_shows_the_same_games(more: dict[str, Any]) -> None:
    """With the same actions: the same rewards and ends, and frames whose luminance equals the grey planes."""
    config, num_envs = Config(id="ALE/Breakout-v5", height=210, width=160, **more), 2
    env, twin = make(config, num_envs), ColourTwin(config, num_envs)
    mirror = StackedAtari(config, num_envs, threads=1, full_colour=True).planes  # what the twin wraps, for rewards and ends
    grey, colour = env.reset(seed=21)[0][:, -1], twin.reset(seed=21)
    mirror.reset(seed=21)
    rng = np.random.default_rng(0)
    rewards, ends = 0.0, 0
    for tick in range(160):
        assert colour.shape == (num_envs, 210, 160, 3)
        assert colour.dtype == np.uint8
        luminance = colour @ np.array([0.299, 0.587, 0.114])
        assert np.abs(luminance - grey).mean() < 1.5, f"tick {tick}"
        actions = rng.integers(env.single_action_space.n, size=num_envs)
        stacks, reward, terminated, truncated, _ = env.step(actions)
        grey, colour = stacks[:, -1], twin.step(actions)
        shown, reward_twin, terminated_twin, truncated_twin, _ = mirror.step(actions)
        assert np.array_equal(shown[:, 0], colour)
        assert np.array_equal(reward, reward_twin)
        assert np.array_equal(terminated, terminated_twin)
        assert np.array_equal(truncated, truncated_twin)
        rewards += float(reward.sum())
        ends += int((terminated | truncated).sum())
    assert rewards > 0
    assert ends > 0


def test_flicker_blanks_whole_planes_at_random() -> None:
    settings = {"id": "ALE/Pong-v5", "num_envs": 4, "height": 24, "width": 20}
    plain, flickering = (make(Config(**settings, flicker=p), 4) for p in (0.0, 0.5))  # type: ignore[arg-type]
    seen = plain.reset(seed=1)[0], flickering.reset(seed=1)[0]
    blank = []
    for _ in range(100):
        newest, shown = seen[0][:, -1], seen[1][:, -1]
        gone = ~shown.reshape(4, -1).any(1)
        np.testing.assert_array_equal(shown[~gone], newest[~gone])
        blank.append(gone)
        seen = plain.step(np.zeros(4, np.int64))[0], flickering.step(np.zeros(4, np.int64))[0]
    assert 150 < np.sum(blank) < 250  # of 400: within five standard deviations of one half
    assert len({tuple(column) for column in np.array(blank).T}) == 4  # independently in every environment
    again = make(Config(**settings, flicker=0.5), 4)  # type: ignore[arg-type]
    again.reset(seed=1)
    repeated = [~again.step(np.zeros(4, np.int64))[0][:, -1].reshape(4, -1).any(1) for _ in range(50)]
    np.testing.assert_array_equal(np.array(repeated), np.array(blank[1:51]))
