"""Demonstrations: writing and reading them, broken folders, Minari datasets, and the record command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlsuite
from rlsuite.cli.main import app
from rlsuite.config.loader import resolve
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.types import EnvSpec, Step, describe
from rlsuite.envs import atari, key_door
from rlsuite.evaluation import record
from rlsuite.replay import demonstrations
from rlsuite.replay.demonstrations import Demonstrations

KEY_DOOR = key_door.Config(id="rlsuite/KeyDoor-v0", rooms=2, size=3, max_steps=40)


def made(episodes: int = 5) -> Demonstrations:
    return record.from_policy(KEY_DOOR, key_door.solve, episodes, seed=1)


def spec() -> EnvSpec:
    return describe(key_door.make(KEY_DOOR, 1))


def test_saved_episodes_are_loaded_unchanged(tmp_path: Path) -> None:
    recorded = made(11)
    demonstrations.save(recorded, tmp_path / "kd")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kd"]
    found = demonstrations.load(tmp_path / "kd", spec())
    assert found.env_id == "rlsuite/KeyDoor-v0"
    for ours, theirs in zip(recorded.steps[:-1], found.steps[:-1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.returns() == [1.0] * 11
    for episode in found.episodes():
        assert episode.first.tolist() == [True] + [False] * (len(episode.first) - 1)
        assert episode.last.tolist() == [False] * (len(episode.first) - 1) + [True]
        assert episode.terminal[-1]
    with pytest.raises(UsageError, match="exists already"):
        demonstrations.save(recorded, tmp_path / "kd")


def test_short_episodes_are_not_favoured() -> None:
    """Every environment plays a fixed share of the episodes: 5 episodes in 3 environments are 2, 2 and 1."""
    seen: list[int] = []

    def note(env: Any, observation: Any) -> Any:
        seen[:] = [env.num_envs]
        return key_door.solve(env, observation)

    found = record.from_policy(KEY_DOOR, note, 5, seed=1, num_envs=3)
    assert seen == [3]
    assert len(found.returns()) == 5


def test_frames_are_stored_once_as_planes(tmp_path: Path) -> None:
    section = atari.Config(id="ALE/Pong-v5", height=24, width=20, max_frames=80)
    rng = np.random.default_rng(0)
    found = record.from_policy(section, lambda env, seen: rng.integers(6, size=env.num_envs), 3, seed=1)
    assert found.steps.observation.shape[1:] == (24, 20)
    demonstrations.save(found, tmp_path / "pong")
    demonstrations.load(tmp_path / "pong", describe(atari.make(section, 1)))
    lengths = [len(episode.first) for episode in found.episodes()]
    assert lengths == [21, 21, 21]
    assert not found.steps.terminal.any()  # truncated by the limit on frames


# ------------------------------------------------------------------------------------------------------------------ broken folders


def break_(folder: Path, name: str, change: Any) -> None:
    leaf = np.load(folder / f"{name}.npy")
    np.save(folder / f"{name}.npy", change(leaf))


def flag(at: int, value: bool) -> Any:
    def change(leaf: Any) -> Any:
        leaf = leaf.copy()
        leaf[at] = value
        return leaf

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("reward", lambda x: x[:-3], r"reward.npy has \d+ steps.*truncated"),
        ("reward", lambda x: x.astype(np.float64), "reward.npy must be float32"),
        ("reward", lambda x: np.full_like(x, np.nan), "reward of step 0 is not finite"),
        ("observation", lambda x: x[:, :-1], "observation.npy has float32"),
        ("observation", lambda x: x.astype(np.float64), "observation.npy has float64"),
        ("action", lambda x: x + 5, "actions must be whole numbers below 5"),
        ("first", flag(0, False), "`first` must mark the first step"),
        ("last", flag(-1, False), "`last` does not mark the last step"),
        ("last", flag(2, True), "step 2: `last` and the `first` of the next step disagree"),
        ("last", lambda x: x.astype(np.int64), "last.npy must be bool"),
        ("action", lambda x: np.array([{"a": 1}] * len(x), object), r"action.npy cannot be read.*"),
        ("action", lambda x: x[:, None], r"action.npy has shape \[1\], but demonstrations.json says \[\]"),
    ],
)
def test_broken_arrays_are_refused_with_the_name_of_the_file(tmp_path: Path, name: str, change: Any, message: str) -> None:
    folder = tmp_path / "kd"
    demonstrations.save(made(), folder)
    break_(folder, name, change)
    with pytest.raises(UsageError, match=message):
        demonstrations.load(folder, spec())


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kd"
    demonstrations.save(made(), folder)
    (folder / "last.npy").write_bytes((folder / "last.npy").read_bytes()[:60])
    with pytest.raises(UsageError, match=r"last.npy cannot be read"):
        demonstrations.load(folder)
    for junk, message in ((b"PK\x03\x04junk", "cannot be read"), (b"", "cannot be read")):
        (folder / "last.npy").write_bytes(junk)
        with pytest.raises(UsageError, match=rf"last.npy {message}"):
            demonstrations.load(folder)
    with open(folder / "last.npy", "wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(UsageError, match=r"last.npy contains several arrays"):
        demonstrations.load(folder)
    (folder / "last.npy").unlink()
    with pytest.raises(UsageError, match=r"last.npy cannot be read"):
        demonstrations.load(folder)
    document = json.loads((folder / "demonstrations.json").read_text())
    for spec_ in ([], {**document["spec"], "stack": "4"}, {**document["spec"], "observation_shape": None}):
        (folder / "demonstrations.json").write_text(json.dumps({**document, "spec": spec_}))
        with pytest.raises(UsageError, match="damaged"):
            demonstrations.load(folder)
    (folder / "demonstrations.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        demonstrations.load(folder)
    (folder / "demonstrations.json").unlink()
    with pytest.raises(UsageError, match=r"neither demonstrations\.json nor a Minari dataset"):
        demonstrations.load(folder)


def test_demonstrations_of_another_environment_are_refused(tmp_path: Path) -> None:
    demonstrations.save(made(), tmp_path / "kd")
    other = describe(key_door.make(KEY_DOOR.model_copy(update={"size": 4}), 1))
    with pytest.raises(UsageError, match=r"observation_shape = \(21,\), not \(26,\) as in this environment"):
        demonstrations.load(tmp_path / "kd", other)
    settings = {"replay.demonstrations": str(tmp_path / "kd"), "replay.demonstration_ratio": 0.5, "env.size": 4}
    with pytest.raises(UsageError, match="observation_shape"):
        rlsuite.train("classic/key_door_r2d3", settings, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="nowhere: there is no such folder"):
        demonstrations.load(tmp_path / "nowhere")
    lake = Demonstrations("FrozenLake-v1", LAKE, made_in_a_lake())
    demonstrations.save(lake, tmp_path / "lake")
    with pytest.raises(UsageError, match=r"num_states = 16, not 64"):
        demonstrations.load(tmp_path / "lake", LAKE._replace(num_states=64))
    with pytest.raises(UsageError, match="observations must be whole numbers below 3"):
        demonstrations.save(lake._replace(spec=LAKE._replace(num_states=3)), tmp_path / "small")
    with pytest.raises(UsageError, match=r"demonstration_ratio = 0\.5 has no effect without replay\.demonstrations"):
        resolve("classic/recall_r2d2", {"replay.demonstration_ratio": 0.5})
    with pytest.raises(UsageError, match=r"demonstrations needs replay\.demonstration_ratio: give both, or none"):
        resolve("classic/recall_r2d2", {"replay.demonstrations": "somewhere"})


LAKE = EnvSpec((), "int64", num_actions=4, num_states=16, stack=1, frames_per_step=1)


def made_in_a_lake() -> Step:
    at = np.arange(4)
    return Step(at, np.zeros(4, np.float32), at == 0, at == 3, at == 3, np.zeros(4, np.int64), {})


# ------------------------------------------------------------------------------------------------------------------ Minari


@pytest.fixture
def minari_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minari_round_trip(minari_home: Path) -> None:
    recorded = made()
    demonstrations.save_minari(recorded, "key/door-v0")
    for place in (Path("key/door-v0"), minari_home / "key" / "door-v0"):
        found = demonstrations.load(place, spec())
        for ours, theirs in zip(recorded.steps[:-1], found.steps[:-1], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UsageError, match="Minari refuses key/door-v0"):
        demonstrations.save_minari(recorded, "key/door-v0")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_frame_stacks_of_a_minari_dataset_become_planes(minari_home: Path) -> None:
    section = atari.Config(id="ALE/Pong-v5", height=24, width=20, max_frames=80, stack=3)
    recorded = record.from_policy(section, lambda env, seen: np.ones(env.num_envs, np.int64), 2, seed=1)
    demonstrations.save_minari(recorded, "pong/idle-v0")
    found = demonstrations.load(Path("pong/idle-v0"), describe(atari.make(section, 1)))
    np.testing.assert_array_equal(recorded.steps.observation, found.steps.observation)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_minari_dataset_that_was_not_written_by_us(minari_home: Path) -> None:
    import minari
    from minari.data_collector import EpisodeBuffer

    env = gymnasium.make("CartPole-v1", max_episode_steps=12)
    rng = np.random.default_rng(0)
    seen, rewards, buffers = [], [], []
    for episode in range(3):
        columns: dict[str, list[Any]] = {name: [] for name in ("actions", "rewards", "terminations", "truncations")}
        observations = [env.reset(seed=episode)[0]]
        while not columns["actions"] or not (columns["terminations"][-1] or columns["truncations"][-1]):
            action = int(rng.integers(2))
            observation, *rest, _ = env.step(action)
            observations.append(observation)
            for name, value in zip(columns, [action, *rest], strict=True):
                columns[name].append(value)
        buffers.append(EpisodeBuffer(id=episode, observations=observations, **columns))
        seen += observations
        rewards += columns["rewards"]
    minari.create_dataset_from_buffers("cart/random-v0", buffers, env=env)
    config = resolve("classic/dqn")
    from rlsuite.factories import make_env

    found = demonstrations.load(Path("cart/random-v0"), describe(make_env(config, 1)))
    np.testing.assert_array_equal(found.steps.observation, np.stack(seen))
    assert sum(found.returns()) == sum(rewards)
    assert found.env_id == "CartPole-v1"
    assert found.steps.first.sum() == found.steps.last.sum() == 3


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("broken", ["space", "flags", "truncated"])
def test_broken_minari_datasets_are_refused_with_the_episode(minari_home: Path, broken: str) -> None:
    import h5py

    demonstrations.save_minari(made(), "key/door-v0")
    file = minari_home / "key" / "door-v0" / "data" / "main_data.hdf5"
    if broken == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        message = "cannot be read as a Minari dataset"
    else:
        with h5py.File(file, "r+") as data:
            episode = data["episode_1"]
            if broken == "flags":
                episode["terminations"][...] = False
                message = r"episode 1 must end at its last action and only there, but its flags end it at \[\]"
            else:
                observations = episode["observations"][...][:, :-1]
                del episode["observations"]
                episode["observations"] = observations
                message = r"episode 1 has observations \[20\], but their space is \[21\]"
    with pytest.raises(UsageError, match=message):
        demonstrations.load(Path("key/door-v0"), spec())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_discrete_minari_spaces_may_start_at_another_number_than_0(minari_home: Path) -> None:
    import minari
    from gymnasium.spaces import Discrete, MultiBinary
    from minari.data_collector import EpisodeBuffer

    def make(name: str, actions: Any, space: Any) -> Path:
        ends = np.array([False, False, True])
        rest = {"rewards": [0.0, 0.0, 1.0], "terminations": ends, "truncations": ~ends & False}
        buffer = EpisodeBuffer(id=0, observations=np.array([5, 6, 5, 7]), actions=actions, **rest)  # type: ignore[arg-type]
        minari.create_dataset_from_buffers(name, [buffer], observation_space=Discrete(3, start=5), action_space=space)
        return Path(name)

    found = demonstrations.load(make("from/one-v0", np.array([1, 3, 2]), Discrete(3, start=1)))
    assert found.steps.action.tolist()[:3] == [0, 2, 1]
    assert found.steps.observation.tolist() == [0, 1, 0, 2]
    with pytest.raises(UsageError, match=r"episode 0: \[1, 3, 2\] is not in the environment's space Discrete\(2, start=1\)"):
        demonstrations.load(make("too/few-v0", np.array([1, 3, 2]), Discrete(2, start=1)))
    with pytest.raises(
        UsageError, match="actions must be Discrete, MultiDiscrete or a Box; the environment's space is MultiBinary"
    ):
        demonstrations.load(make("many/bits-v0", np.ones((3, 2), np.int8), MultiBinary(2)))


def test_an_output_folder_that_cannot_be_written_is_refused_before_playing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "from_policy", lambda *_: pytest.fail("somebody played"))
    with pytest.raises(UsageError, match="/proc/none/x cannot be written"):
        app(
            ["record", "classic/key_door_r2d3", "--policy", "rlsuite.envs.key_door:solve", "--out", "/proc/none/x"],
            standalone_mode=False,
        )


def test_without_minari_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['minari'] = None\n"
        "from pathlib import Path\nfrom rlsuite.replay import demonstrations\n"
        "try:\n    demonstrations.load(Path('some/data-v0'))\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("UsageError some/data-v0")
    assert "rlsuite[demonstrations]" in printed


# ------------------------------------------------------------------------------------------------------------------ the command


def test_record_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a policy may be a file in the current folder
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_bot.py").write_text(
        "import numpy as np\n"
        "def wide(env, seen): return np.zeros((env.num_envs, 1), int)\n"
        "def wild(env, seen): return np.full(env.num_envs, 9)\n"
        "def broken(env, seen): return env.no_such_thing\n"
    )
    (tmp_path / "half.py").write_text("def x(:\n")
    out = tmp_path / "kd"
    arguments = ["record", "classic/key_door_r2d3", "env.rooms=2", "env.size=3", "--policy", "rlsuite.envs.key_door:solve"]
    app([*arguments, "--episodes", "4", "--out", str(out), "--json"], standalone_mode=False)
    summary = json.loads(capsys.readouterr().out)
    assert summary["episodes"] == 4
    assert summary["actions"] == len(np.load(out / "reward.npy")) - 4
    assert summary["mean_return"] == 1
    for given, message in (
        (arguments, "exists already"),
        (["record", "classic/key_door_r2d3", "--policy", "nonsense"], "package.module:function"),
        (["record", "classic/key_door_r2d3", "--policy", ":solve"], "package.module:function"),
        (["record", "classic/key_door_r2d3", "--policy", "half.py:x"], "half.py cannot be loaded: SyntaxError"),
        (["record", "classic/key_door_r2d3"], "is a config, whose agent is untrained"),
        (["record", "classic/key_door_r2d3", "--policy", "rlsuite.envs.key_door:slove"], "cannot be imported"),
        (["record", "classic/key_door_r2d3", "--policy", "rlsuite.envs.key_door:UP"], "must be a function, not int"),
        (["record", "classic/key_door_r2d3", "--policy", "my_bot:wide"], r"shape \[8, 1\] for 8 environments"),
        (["record", "classic/key_door_r2d3", "--policy", "my_bot:wild"], "whole numbers from 0 to 4"),
        (["record", "classic/dqn", "--policy", "a:b", "--keyboard"], "exclude each other"),
        (["record", "classic/key_door_r2d3", "--policy", "./my_bot.py:wild"], "whole numbers from 0 to 4"),
        (["record", "runs/nowhere"], "nowhere"),
        (["record", "classic/dqn", "--keyboard"], "defines no keys for --keyboard"),
    ):
        folder = out if message == "exists already" else tmp_path / "new"
        with pytest.raises(UsageError, match=message):
            app([*given, "--out", str(folder)], standalone_mode=False)
        assert not (tmp_path / "new").exists()
    with pytest.raises(RlsuiteError, match=r"^the policy failed: AttributeError: .*no_such_thing") as failed:
        app(["record", "classic/key_door_r2d3", "--policy", "my_bot:broken", "--out", "new"], standalone_mode=False)
    assert "my_bot.py" in failed.value.details


def test_ctrl_c_keeps_the_finished_episodes_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def impatient(env: Any, seen: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 60:
            raise KeyboardInterrupt
        return key_door.solve(env, seen)

    monkeypatch.setattr(record, "find_policy", lambda name: impatient)
    arguments = ["record", "classic/key_door_r2d3", "env.rooms=2", "env.size=3", "--policy", "a:b", "--episodes", "1000"]
    code = app([*arguments, "--out", str(tmp_path / "kd")], standalone_mode=False)
    kept = len(demonstrations.load(tmp_path / "kd").returns())
    assert 0 < kept < 1000
    assert f"stopped: kept {kept} of 1000 episodes" in capsys.readouterr().err
    assert code == 130


@pytest.mark.integration
def test_a_saved_agent_can_be_recorded_and_learned_from(tmp_path: Path) -> None:
    tiny = {
        "env.num_envs": 4,
        "run.agent_steps": 400,
        "replay.min_agent_steps": 100,
        "replay.capacity_agent_steps": 2_000,
        "learner.batch_size": 8,
        "net.hidden": 8,
        "net.memory_size": 8,
        "env.rooms": 2,
        "env.size": 3,
        "env.max_steps": 30,
        "eval.episodes": 1,
        "eval.every_agent_steps": None,
    }
    run = rlsuite.train("classic/key_door_r2d3", tiny, run_dir=tmp_path / "run").run
    app(["record", str(run), "--episodes", "3", "--out", str(tmp_path / "shown")], standalone_mode=False)
    policy = ["--policy", "rlsuite.envs.key_door:solve", "--episodes", "2"]
    app(["record", str(run), *policy, "--out", str(tmp_path / "solved")], standalone_mode=False)  # in the run's environment
    mixed = {**tiny, "replay.demonstrations": str(tmp_path / "shown"), "replay.demonstration_ratio": 0.5}
    result = rlsuite.train("classic/key_door_r2d3", mixed, run_dir=tmp_path / "mixed")
    assert result.learner_steps > 5
    other = {**mixed, "env.id": "rlsuite/Recall-v0", "replay.demonstrations": str(tmp_path / "solved")}
    for key in ("env.rooms", "env.size", "env.max_steps"):
        del other[key]
    with pytest.raises(UsageError, match="was recorded in rlsuite/KeyDoor-v0, not in rlsuite/Recall-v0"):
        rlsuite.train("classic/recall_r2d2", other, run_dir=tmp_path / "other")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a window needs no DISPLAY")
def test_keyboard_play_without_a_display_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="cannot open a window"):
        record.from_keyboard(KEY_DOOR, 1, seed=1, fps=1000)


@pytest.mark.parametrize("game", ["key_door", "pong"])
def test_keyboard_play(monkeypatch: pytest.MonkeyPatch, game: str) -> None:
    """With a dummy display and simulated key presses."""
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    if game == "key_door":
        section: Any = KEY_DOOR.model_copy(update={"max_steps": 5})
        key, action = pygame.K_DOWN, key_door.DOWN
    else:
        section = atari.Config(id="ALE/Pong-v5", height=24, width=20, max_frames=24)
        key, action = pygame.K_UP, 0  # Pong has no UP, so the key is ignored

    def events() -> list[Any]:
        return [pygame.event.Event(pygame.KEYDOWN, key=key)]

    monkeypatch.setattr(pygame.event, "get", events)
    if game == "pong":
        keys, idle = atari.keys(section)
        assert idle == 0
        assert keys[frozenset({"right"})] == 2  # NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE
        assert keys[frozenset({"left", "space"})] == 5
        assert (
            atari.keys(section.model_copy(update={"id": "PongNoFrameskip-v4", "full_action_set": True}))[0][
                frozenset({"up", "left", "space"})
            ]
            == 15
        )
    found = record.from_keyboard(section, 1, seed=1, fps=1000)
    acted = ~found.steps.last
    assert set(found.steps.action[acted].tolist()) == {action}
    pygame.quit()
