"""Runs of strangers: nothing that they name is started, nothing outside them is written, and one line says what is wrong."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import rlsuite
from rlsuite.cli.main import main
from rlsuite.core.errors import UsageError
from rlsuite.runs import checkpoint, trust

TINY: dict[str, Any] = {"run.threads": 1, "run.agent_steps": 40, "eval.every_agent_steps": None, "eval.episodes": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of DQN and one of AlphaZero, made here, and then signed by somebody else."""
    place, runs = tmp_path_factory.mktemp("made"), {}
    rlsuite.train("classic/dqn", {**TINY, "replay.min_agent_steps": 1000, "eval.stop_at_return": None}, run_dir=place / "dqn")
    board = {
        "run.agent_steps": 30,
        "agent.simulations": 4,
        "agent.eval_simulations": 4,
        "env.num_envs": 2,
        "eval.stop_at_return": None,
    }
    board |= {"env.id": "hex(size=3)", "env.opponent": "random"}
    rlsuite.train("boards/hex", {**TINY, **board}, run_dir=place / "board")
    for name in ("dqn", "board"):
        runs[name] = place / name
        assert checkpoint.load(checkpoint.find(place / name)).own
    return runs


@pytest.fixture
def foreign(made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Copies of the runs on an account with another key; `tmp_path/evil.py` would leave a trace."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, run in made.items():
        shutil.copytree(run, tmp_path / name)
    return {name: tmp_path / name for name in made}


def change(run: Path, edit: Callable[[Any], None], file: str = "state.json") -> None:
    """Edits a JSON file of the newest checkpoint, with sizes and hashes recomputed; `edit` changes the document in place."""
    place = checkpoint.find(run)
    document = json.loads((place / file).read_text())
    edit(document)
    (place / file).write_text(json.dumps(document))
    if file == "state.json":
        recompute(place, file)


def recompute(place: Path, file: str) -> None:
    manifest = json.loads((place / "COMPLETE").read_text())
    data = (place / file).read_bytes()
    manifest["files"][file] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (place / "COMPLETE").write_text(json.dumps(manifest))


def set_key(section: str, key: str, value: Any) -> Callable[[Path], None]:
    """A tampering that changes one value of the config, in the checkpoint and in config.yaml."""

    def tamper(run: Path) -> None:
        change(run, lambda document: document["metadata"]["config"][section].update({key: value}))
        config = yaml.safe_load((run / "config.yaml").read_text())
        config[section][key] = value
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    return tamper


def deep(run: Path) -> None:
    place = checkpoint.find(run)
    (place / "state.json").write_text("[" * 100_000 + "]" * 100_000)
    recompute(place, "state.json")


def deep_manifest(run: Path) -> None:
    (checkpoint.find(run) / "COMPLETE").write_text('{"format": ' + "[" * 100_000)


def outside(run: Path) -> None:
    change(run, lambda document: document["files"].update({"../../../evil.py": {"bytes": 1, "sha256": "0"}}), "COMPLETE")


def linked(run: Path) -> None:
    weights = checkpoint.find(run) / "weights.safetensors"
    weights.unlink()
    weights.symlink_to(run.parent / "evil.py")
    recompute(weights.parent, weights.name)


def linked_log(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(run.parent / "evil.py")
    (run / "run.json").unlink()


def fifo(run: Path) -> None:
    weights = checkpoint.find(run) / "weights.safetensors"
    weights.unlink()
    os.mkfifo(weights)


def yaml_object(run: Path) -> None:
    (run / "config.yaml").write_text(f"agent: !!python/object/apply:os.system ['touch {run.parent / 'pwned'}']\n")
    change(run, lambda document: document.update(metadata=None))


def spec(key: str, value: Any) -> Callable[[Path], None]:
    return lambda run: change(run, lambda document: document["metadata"]["spec"].update({key: value}))


def stages(run: Path) -> None:
    staged(run, {"one": {"agent": {"name": "evil.py:Agent"}}})


def staged(run: Path, inner: Any) -> None:
    change(run, lambda document: document["metadata"]["config"].update(stages=inner))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "stages": inner}))


def kwargs(env_id: str, **values: Any) -> Callable[[Path], None]:
    """A run in a Gymnasium environment with these keyword arguments."""

    def tamper(run: Path) -> None:
        for key, value in (("id", env_id), ("kwargs", values)):
            set_key("env", key, value)(run)

    return tamper


def joins_a_cluster(run: Path) -> None:
    for key, value in (("kind", "ray"), ("address", "ray://127.0.0.1:9")):
        set_key("runtime", key, value)(run)


def corrupt_positions(run: Path) -> None:
    folder = checkpoint.find(run)
    files = sorted(folder.glob("arrays/collector/*/rows.npy"))
    assert len(files) == 2  # of the searches' nodes and of the games
    for rows in files:
        np.save(rows, np.full_like(np.load(rows), 127))
        recompute(folder, str(rows.relative_to(folder)))


def linked_checkpoints(run: Path) -> None:
    (run / "checkpoints").rename(run.parent / "elsewhere")
    (run / "checkpoints").symlink_to(run.parent / "elsewhere")


def deep_yaml(run: Path) -> None:
    (run / "config.yaml").write_text("a: " + "[" * 20_000 + "]" * 20_000)
    deep(run)


def circular_yaml(run: Path) -> None:
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("stages: null", "stages: &s {one: *s}"))
    deep(run)


def minari(run: Path) -> None:
    """A dataset without spaces, for which Minari would call what its environment's spec names."""
    data = run / "demonstrations" / "data"
    data.mkdir(parents=True)
    spec = {"id": "X-v0", "entry_point": "os:system", "kwargs": {"command": f"touch {run.parent / 'pwned'}"}}
    (data / "metadata.json").write_text(json.dumps({"data_format": "arrow", "env_spec": json.dumps(spec)}))
    for key, value in (("demonstrations", str(run / "demonstrations")), ("demonstration_ratio", 0.5)):
        set_key("replay", key, value)(run)


HOSTILE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a command over GTP": ("board", set_key("env", "opponent", "gtp(command=touch pwned)")),
    "a command over UCI": ("board", set_key("env", "opponent", "uci(command=touch pwned)")),
    "a board game in a file": ("board", set_key("env", "id", "evil.py")),
    "a board game in a module": ("board", set_key("env", "id", "evil.game")),
    "an environment in a file": ("dqn", set_key("env", "id", "evil.py:Env")),
    "an environment in a module": ("dqn", set_key("env", "id", "evil:Env-v0")),
    "an agent in a file": ("dqn", set_key("agent", "name", "evil.py:Agent")),
    "a torso in a file": ("dqn", set_key("net", "torso", "evil.py:torso(width=3)")),
    "a memory core in a file": ("dqn", set_key("net", "memory", "evil.py:core")),
    "Gymnasium's compatibility wrapper": ("dqn", set_key("env", "id", "GymV26Environment-v0")),
    "a game in the spec": ("board", spec("game", "evil.py")),
    "stages": ("dqn", stages),
    "a game among the arguments": ("dqn", kwargs("rlsuite/TicTacToe-v0", game="evil.py")),
    "an opponent among the arguments": ("dqn", kwargs("rlsuite/Hex-v0", size=3, opponent="gtp(command=touch pwned)")),
    "a path with a parenthesis": ("dqn", set_key("agent", "name", "(dir/../evil.py:Agent")),
    "another's Ray cluster": ("dqn", joins_a_cluster),
    "a callback": ("dqn", set_key("run", "callbacks", ["evil.py:Callback"])),
    "a callback without a list": ("dqn", set_key("run", "callbacks", "evil.py:Callback")),
    "a callback of a stage": ("dqn", lambda run: staged(run, {"one": {"run": {"callbacks": ["evil.py:Callback"]}}})),
    "a tracker in a file": ("dqn", set_key("run", "trackers", ["evil.py:Tracker"])),
    "stages in other folders": ("dqn", lambda run: staged(run, {"x/../../outside": {"run": {"agent_steps": 60}}})),
    "a Minari dataset": ("dqn", minari),
    "an attribute of the environment": (
        "dqn",
        lambda run: change(run, lambda d: d["state"]["collector"]["env"]["envs"][0]["attributes"].update(step=3)),
    ),
    "a state that is missing": ("dqn", lambda run: change(run, lambda d: d["state"].update(replay=None))),
    "a section that is missing": ("dqn", lambda run: change(run, lambda d: d["metadata"]["config"].pop("env"))),
    "checkpoints elsewhere": ("dqn", linked_checkpoints),
    "deep YAML": ("dqn", deep_yaml),
    "YAML in itself": ("dqn", circular_yaml),
    "a billion simulations": ("board", set_key("agent", "eval_simulations", 10**9)),
    "names with ..": ("dqn", outside),
    "a link out of the folder": ("dqn", linked),
    "a log that links out of the folder": ("dqn", linked_log),
    "a pipe": ("dqn", fifo),
    "deep JSON": ("dqn", deep),
    "a deep manifest": ("dqn", deep_manifest),
    "a huge net": ("dqn", set_key("net", "hidden", 2**40)),
    "huge observations": ("dqn", spec("observation_shape", [2**40])),
    "shapes that are not numbers": ("dqn", spec("observation_shape", [float("nan"), "x"])),
    "a space of objects": ("dqn", spec("observation_space", ["Box", [4], "object", 0, 1])),
    "objects in YAML": ("dqn", yaml_object),
    "steps that are text": ("dqn", lambda run: change(run, lambda document: document.update(agent_steps="many"))),
}

HARMLESS = ("an attribute of the environment",)  # new episodes begin


def test_links_beside_a_checkpoint_of_somebody_else_are_refused(tmp_path: Path) -> None:
    """A folder to share takes its video from there."""
    step = tmp_path / "run" / "checkpoints" / "step_000000000001"
    step.mkdir(parents=True)
    trust.admit({}, step, own=False)
    (tmp_path / "run" / "videos").mkdir()
    (tmp_path / "run" / "videos" / "z.mp4").symlink_to(tmp_path)
    for where in (step, tmp_path / "run"):
        with pytest.raises(UsageError, match=r"videos/z\.mp4 links to"):
            trust.admit({}, where, own=False)
        trust.admit({}, where, own=True)


READERS = (
    ("evaluate", "{run}", "--episodes", "1"),
    ("train", "--resume", "{run}", "run.agent_steps=60"),
    ("record", "{run}", "--episodes", "1", "--out", "{run}-demonstrations"),
    ("record", "{run}", "--policy", "random_policy.py:act", "--out", "{run}-demonstrations"),
    ("info", "{run}"),
    ("compare", "{run}", "--out", "{run}.png"),
    ("play", "{run}"),
    ("match", "{run}", "random", "--games", "2"),
    ("ladder", "{run}", "--games", "2"),
    ("gtp", "{run}"),
    ("uci", "{run}"),
    ("vision", "probe", "{run}"),
    ("config", "{run}/config.yaml"),
    ("record", "{run}/config.yaml", "--policy", "random_policy.py:act", "--out", "{run}-demonstrations"),
)


def said(command: tuple[str, ...], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command writes to stderr; "" if it succeeds."""
    monkeypatch.setattr("sys.argv", ["rlsuite", *(word.format(run=run) for word in command)])
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main()
    errors = capsys.readouterr().err
    return "" if end.value.code in (0, None) else errors


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_runs_start_nothing_and_get_one_line(
    name: str, foreign: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, tamper = HOSTILE[name]
    run = foreign[kind]
    tamper(run)
    (tmp_path / "random_policy.py").write_text("def act(env, observation):\n    return env.action_space.sample()\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.is_file()}
    refused = 0
    for command in READERS:
        errors = said(command, run, monkeypatch, capsys)
        refused += bool(errors)
        assert "Traceback" not in errors
        assert not errors or errors.strip().splitlines()[-1].startswith("rlsuite: "), (command, errors)
        assert not (tmp_path / "pwned").exists(), command
        assert not (tmp_path / "outside").exists(), command
    assert refused >= (name not in HARMLESS)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path in before}
    assert before == after


def test_corrupt_positions_of_a_stranger_are_not_played_on(foreign: dict[str, Path]) -> None:
    corrupt_positions(foreign["board"])  # the compiled rules would read and write anywhere
    assert rlsuite.train(resume=foreign["board"], overrides={"run.agent_steps": 60}).agent_steps >= 60


def test_the_config_file_of_a_stranger_executes_nothing_either(foreign: dict[str, Path], tmp_path: Path) -> None:
    set_key("agent", "name", "evil.py:Agent")(foreign["dqn"])
    with pytest.raises(UsageError, match=r"would run agent\.name = evil\.py:Agent"):
        rlsuite.train(foreign["dqn"] / "config.yaml", run_dir=tmp_path / "new")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("tracker", ["wandb", "mlflow(uri=http://evil.example)"])
def test_a_run_of_a_stranger_sends_nothing_away_but_can_be_read(
    tracker: str, foreign: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = foreign["dqn"]
    set_key("run", "trackers", [tracker])(run)
    set_key("run", "callbacks", ["evil.py:Callback"])(run)
    assert not said(("evaluate", "{run}", "--episodes", "1"), run, monkeypatch, capsys)  # which starts neither
    errors = said(("train", "--resume", "{run}", "run.agent_steps=60"), run, monkeypatch, capsys)
    assert f"would run run.callbacks = ['evil.py:Callback'] and run.trackers = ['{tracker}']: allow that with --trust" in errors
    none = ("run.trackers=[]", "run.callbacks=[]")
    assert not said(("train", "--resume", "{run}", "run.agent_steps=60", *none), run, monkeypatch, capsys)
    assert not (tmp_path / "pwned").exists()


def test_a_run_of_a_stranger_says_what_it_would_run_and_goes_on_when_allowed(
    foreign: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = foreign["board"]
    set_key("env", "opponent", "gtp(command=touch pwned)")(run)
    errors = said(("evaluate", "{run}", "--episodes", "1"), run, monkeypatch, capsys)
    assert "would run env.opponent = gtp(command=touch pwned): allow that with --trust" in errors
    assert not said(("evaluate", "{run}", "--episodes", "1", "--opponent", "random"), run, monkeypatch, capsys)
    assert not (tmp_path / "pwned").exists()
    said(("evaluate", "{run}", "--episodes", "1", "--trust"), run, monkeypatch, capsys)
    trust.allow(False)
    assert (tmp_path / "pwned").exists()
    with pytest.raises(UsageError, match="trust=True"):
        rlsuite.load(run)
    rlsuite.load(run, trust=True)


def test_runs_without_code_of_their_own_are_read_whoever_made_them(foreign: dict[str, Path]) -> None:
    assert not checkpoint.load(checkpoint.find(foreign["dqn"])).own
    assert rlsuite.evaluate(foreign["dqn"], episodes=1).episodes == 1
    result = rlsuite.train(resume=foreign["dqn"], overrides={"run.agent_steps": 60})
    assert result.agent_steps >= 60
    assert checkpoint.load(checkpoint.find(foreign["dqn"])).own  # what is written from now on is one's own


def test_the_key_is_private_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert not trust.is_own(b"data", None)
    assert not (tmp_path / "rlsuite").exists()  # reading makes no key
    signature = trust.sign(b"data")
    assert signature == trust.sign(b"data")
    assert trust.is_own(b"data", signature)
    assert not trust.is_own(b"date", signature)
    assert (tmp_path / "rlsuite" / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "rlsuite").iterdir()] == ["key"]
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/nowhere")
    assert trust.sign(b"data") is None


def test_a_file_that_has_changed_since_the_training_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from rlsuite.nets.torso import mlp\n\n\ndef torso(spec, hidden):\n    return mlp(spec, hidden)\n")
    monkeypatch.chdir(tmp_path)
    overrides = {**TINY, "net.torso": "mine.py:torso", "replay.min_agent_steps": 1000, "eval.stop_at_return": None}
    run = rlsuite.train("classic/dqn", overrides, run_dir=tmp_path / "run").run
    monkeypatch.chdir("/")
    rlsuite.load(run)
    assert "has changed" not in capsys.readouterr().err
    file.write_text(file.read_text() + "# edited\n")
    rlsuite.load(run)
    assert f"{file} has changed since {run} was trained with it" in capsys.readouterr().err
