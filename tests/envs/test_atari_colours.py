"""Recoloured games: the changes by hand, the same games as ale-py's where nothing changes, inverted greys, and what is refused."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError
from rlsuite.envs import atari_colours
from rlsuite.envs.atari import ColourTwin, Config, StackedAtari, make
from rlsuite.envs.atari_colours import change_of

PONG = np.array([[144, 72, 17], [92, 186, 92], [213, 130, 74], [236, 236, 236], [0, 0, 0]], np.uint8)


def test_changes_by_hand() -> None:
    assert change_of("inverted")(PONG)[0].tolist() == [111, 183, 238]
    assert np.array_equal(change_of("inverted")(change_of("inverted")(PONG)), PONG)
    assert np.array_equal(change_of("hue(degrees=120)")(PONG), PONG[:, [2, 0, 1]])
    assert np.array_equal(change_of("hue")(PONG), PONG.max(1, keepdims=True) + PONG.min(1, keepdims=True) - PONG)
    assert np.array_equal(change_of("hue(degrees=-360)")(PONG), PONG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inverse", r"unknown recolour 'inverse'; did you mean inverted\? \(known: hue, inverted\)"),
        ("hue(degree=3)", r"unknown parameter of hue 'degree'; did you mean degrees"),
        ("hue(degrees=all)", r"hue\(degrees=all\): degrees must be a finite number"),
        ("hue(degrees=nan)", r"hue\(degrees=nan\): degrees must be a finite number"),
        ("inverted(degrees=3)", r"unknown parameter of inverted 'degrees': it takes none"),
        ("inverted(degrees=3)", "unknown parameter of inverted 'degrees'"),
    ],
)
def test_unknown_changes_are_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve("atari/pong", {"env.recolour": text})


def play(env: Any, ticks: int) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(0)
    seen = [env.reset(seed=5)[:1]]
    for _ in range(ticks):
        *step, info = env.step(rng.integers(env.single_action_space.n, size=env.num_envs))
        seen.append((*step, info["lives"]))
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        {"id": "ALE/Pong-v5", "noop_max": 0, "height": 64, "width": 64, "stack": 2},
        {"id": "ALE/Breakout-v5", "noop_max": 1, "fire_reset": True, "max_frames": 92},
        {"id": "ALE/MsPacman-v5", "protocol": "sticky", "max_frames": 132, "full_action_set": True},
        {"id": "ALE/Freeway-v5", "noop_max": 0, "frame_skip": 3, "max_frames": 99},
    ],
)
def test_without_a_change_they_are_the_games_of_ale_py(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes but for the rounding of halves, rewards, ends and lives, over several games, without random no-ops.

    The newest plane of an episode's last step is left out: there ale-py shows an older frame instead of the last one.
    """
    monkeypatch.setitem(atari_colours.CHANGES, "same", lambda colours: colours)
    ours, theirs = make(Config(**settings, recolour="same"), 2), make(Config(**settings), 2)
    ends = 0
    for tick, (mine, other) in enumerate(zip(play(ours, 80), play(theirs, 80), strict=True)):
        ended = (mine[2] | mine[3]) if tick else np.zeros(2, bool)
        apart = np.abs(mine[0].astype(int) - other[0])
        assert apart[:, :-1].max() <= 1, f"tick {tick}"
        assert apart[~ended].max(initial=0) <= 1, f"tick {tick}"
        assert mine[0].strides == other[0].strides
        for a, b in zip(mine[1:], other[1:], strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b), f"tick {tick}"
        ends += int(ended.sum())
    assert ends > 0 or "max_frames" not in settings


def frames(recolour: str | None, **more: Any) -> NDArray[np.uint8]:
    """Planes [T,L,H,W] of games without no-ops."""
    env = make(Config(id="ALE/Pong-v5", noop_max=0, recolour=recolour, **more), 1)
    return np.stack([one[0][:, -1] for one in play(env, 40)])


def test_inverted_screens_have_inverted_greys() -> None:
    """Also where the ball moves, which is bright in the older or the newer of two frames: both stay visible."""
    plain, inverted = frames(None)[20:], frames("inverted")[20:]  # Pong begins with an empty screen
    assert (plain != plain[:1]).any()
    assert np.abs(255 - plain.astype(int) - inverted).max() <= 1
    assert np.abs(frames("hue")[20:].astype(int) - plain).max() > 10


def test_seeds_repeat_games_and_start_with_random_no_ops() -> None:
    config = Config(id="ALE/MsPacman-v5", recolour="hue", max_frames=40)
    one, other = (play(make(config, 3), 30) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a[0], b[0])
    lone = make(config, 1)
    assert np.array_equal(lone.reset(seed=[7])[0][0], one[0][0][2])  # seeds count up from the first
    starts = make(config, 8).reset(seed=1)[0][:, -1]
    assert len(np.unique(starts.reshape(8, -1), axis=0)) > 2


def test_the_colour_twin_shows_the_same_games_in_the_new_colours() -> None:
    config = Config(id="ALE/Breakout-v5", height=210, width=160, recolour="inverted", max_frames=200)
    env, twin = make(config, 2), ColourTwin(config, 2)
    assert isinstance(env, StackedAtari)
    grey, colour = env.reset(seed=21)[0][:, -1], twin.reset(seed=21)
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert colour.shape == (2, 210, 160, 3)
        assert np.abs(colour @ np.array([0.299, 0.587, 0.114]) - grey).mean() < 1.5
        actions = rng.integers(4, size=2)
        grey, colour = env.step(actions)[0][:, -1], twin.step(actions)
    assert colour.mean() > 128  # the ground was black


def test_games_of_a_mixture_are_recoloured() -> None:
    game: dict[str, Any] = {"env_id": "ALE/Pong-v5+ALE/Breakout-v5", "num_envs": 2, "noop_max": 0}
    plain, inverted = (
        rlsuite.make_env(**game, recolour=recolour).reset(seed=1)[0][:, -1].astype(int) for recolour in (None, "inverted")
    )
    assert np.abs(255 - plain - inverted).max() <= 1
