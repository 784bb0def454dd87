"""The command line as a user meets it: in a process of its own, or through `main` where that is enough."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import rlsuite
from rlsuite.cli import main

TINY = [
    "run.agent_steps=330",
    "run.threads=1",
    "replay.min_agent_steps=100",
    "learner.batch_size=8",
    "eval.episodes=2",
    "net.hidden=16",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    rlsuite.train("classic/dqn", TINY, run_dir=folder)
    return folder


def call(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(rlsuite.__file__).parents[1])}
    command = [sys.executable, "-m", "rlsuite", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=120)


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and the one line on stderr of a call in this process."""
    monkeypatch.setattr(sys, "argv", ["rlsuite", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main.main()
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("rlsuite: ")]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return int(stop.value.code or 0), lines[0]


@pytest.mark.integration
def test_train_json_prints_one_object_and_stops_exactly(tmp_path: Path) -> None:
    done = call("train", "classic/dqn", *TINY, "env.num_envs=4", "--run-dir", "here", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # nothing else on stdout
    assert result["agent_steps"] == 330  # 4 environments do not divide it
    assert result["run"] == "here"
    assert result["learner_steps"] > 0
    assert {"mean", "median", "iqm", "iqm_interval", "episodes"} <= result["eval"].keys()
    assert result["eval"]["episodes"] == 2
    checkpoint = tmp_path / "here" / "checkpoints" / "step_000000000330"
    assert {"weights.safetensors", "state.json", "COMPLETE"} <= {path.name for path in checkpoint.iterdir()}
    assert (tmp_path / "here" / "config.yaml").is_file()
    assert not [path for path in (tmp_path / "here").rglob("*") if path.suffix in (".pkl", ".pt", ".pickle")]


@pytest.mark.integration
def test_evaluate_is_repeatable_and_writes_beside_the_checkpoint(trained: Path) -> None:
    first = json.loads(call("evaluate", trained, "--episodes", "3", "--seed", "5", "--json").stdout)
    again = json.loads(
        call("evaluate", trained / "checkpoints" / "step_000000000330", "--episodes", "3", "--seed", "5", "--json").stdout
    )
    assert first["eval"] == again["eval"]
    assert first["eval"]["episodes"] == 3
    written = json.loads((trained / "checkpoints" / "step_000000000330.evaluation.json").read_text())
    assert written["mean"] == first["eval"]["mean"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "atari/dqm"], ["unknown config", "atari/dqn"]),
        (["train", "classic/dqn", "agent.name=dqm"], ["unknown agent", "dqn"]),
        (["train", "classic/dqn", "env.id=CartPol-v1"], ["unknown env.id", "CartPole-v1"]),
        (["train", "classic/dqn", "learner.batchsize=3"], ["unknown key learner.batchsize", "learner.batch_size"]),
        (["train", "classic/dqn", "learner.batch_size=100_000_000"], ["batch_size 100000000", "capacity_agent_steps"]),
        (["train", "classic/dqn", "agent.n_steps=0"], ["agent.n_steps = 0", "greater than or equal to 1"]),
        (["train", "classic/dqn", "seed=one"], ["seed = 'one'", "integer"]),
        (["train", "classic/dqn", "net.torso=nature"], ["net.torso=nature", "mlp"]),
        (["train", "classic/dqn", "env.id=Pendulum-v1"], ["continuous actions", "Pendulum-v1", "ppo"]),
        (["train", "classic/dqn", "env.id=Blackjack-v1"], ["observations must be a Box", "Tuple"]),
        (["train", "classic/dqn", "runtime=spark"], ["runtime.kind = 'spark'", "local"]),
        (["train", "classic/dqn", "replay.capacity_agent_steps=1_000_000_000_000"], ["GB", "capacity_agent_steps"]),
        (["train", "missing.yaml"], ["missing.yaml", "No such file"]),
        (["train", "classic/dqn", "oops"], ["'oops'", "key=value"]),
        (["train"], ["name a config"]),
        (["evaluate", "nowhere"], ["nowhere", "does not exist"]),
        (["evaluate", "."], ["not a run folder"]),
        (["info", "nowhere"], ["nowhere"]),
        (["compare", "nowhere"], ["nowhere"]),
        (["list", "agent"], ["agents"]),
        (["bench", "replya"], ["replay"]),
        (["trian"], ["trian"]),
        (["train", "--resume", "nowhere"], ["nowhere", "does not exist"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, line = refused(capsys, monkeypatch, *arguments)
    assert code == 2
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []  # refused before anything starts


@pytest.mark.integration
def test_a_damaged_checkpoint_is_refused_and_a_planted_pickle_is_never_read(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    folder = run / "checkpoints" / "step_000000000330"
    (folder / "weights.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    monkeypatch.chdir(tmp_path)
    assert call("evaluate", run, "--episodes", "1", "--json", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "pwned").exists()
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, line = refused(capsys, monkeypatch, "evaluate", run)
    assert code == 1
    assert "weights.safetensors" in line


def test_resuming_with_another_net_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refused(capsys, monkeypatch, "train", "net.hidden=8", "run.agent_steps=400", "--resume", trained)
    assert code == 2
    assert re.search(r"changed since step_\d+ was written: net\.hidden \d+ -> 8; .*another net", line)


@pytest.mark.integration
def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("a small tmpfs needs root")
    try:
        run = mount / "run"
        rlsuite.train("classic/dqn", TINY, run_dir=run)
        with open(mount / "filler", "wb") as filler:
            filler.write(b"0" * (shutil.disk_usage(mount).free - 30_000))
        monkeypatch.setattr(sys, "argv", ["rlsuite", "train", "run.agent_steps=2_000", "--resume", str(run)])
        with pytest.raises(SystemExit) as stop:
            main.main()
        assert stop.value.code == 1
        stopped, why = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsuite: ")]
        assert "continue from step 330 with: rlsuite train --resume" in stopped
        assert "No space left" in why
        (mount / "filler").unlink()
        assert rlsuite.train(None, {"run.agent_steps": 500}, resume=run).agent_steps == 500
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_a_read_only_run_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code, line = refused(capsys, monkeypatch, "train", "classic/dqn", *TINY, "--run-dir", tmp_path / "file" / "run")
    assert code == 1
    assert "--run-dir" in line


def test_every_command_has_help_with_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    group: Any = typer.main.get_command(main.app)
    commands = [[name] for name in group.commands if name != "vision"]
    commands += [["vision", name] for name in group.commands["vision"].commands]
    assert {"train", "evaluate", "compare", "config", "list", "info", "doctor", "bench", "play"} <= {name for name, *_ in commands}
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["rlsuite", *command, "--help"])
        with pytest.raises(SystemExit) as stop:
            main.main()
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "Examples:" in text
        assert f"rlsuite {' '.join(command)}" in text


def test_help_imports_neither_torch_nor_gymnasium() -> None:
    code = "import sys, rlsuite.cli.main; print(sorted({'torch', 'gymnasium', 'numba', 'ale_py', 'matplotlib'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(rlsuite.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        (["play", "tic_tac_toe", "--against", "mcts(simulations=10)"], "b2\n"),
        (["gtp", "mcts(simulations=10)", "--game", "hex(size=3)"], "genmove b\nquit\n"),
    ],
)
def test_a_player_without_a_net_does_not_wait_for_torch(command: list[str], typed: str) -> None:
    """Torch takes longer to import than everything else up to the first move."""
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); from rlsuite.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(Path(rlsuite.__file__).parents[1])}
    words = [sys.executable, "-c", code, *command]
    done = subprocess.run(words, input=typed, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.endswith("False\n")
    assert " plays " in done.stdout or "= " in done.stdout


def test_list_info_doctor_compare(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def output(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["rlsuite", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main.main()
        assert stop.value.code == 0
        return capsys.readouterr().out

    assert {"dqn", "c51", "qrdqn", "iqn", "q_learning"} <= set(json.loads(output("list", "agents", "--json"))["agents"])
    assert "ALE/Pong-v5" in output("list", "envs").split()
    assert "atari/pong" in output("list", "configs").split()
    nets = {net["name"]: net for net in json.loads(output("list", "nets", "--json"))["nets"]}
    assert {"nature", "impala", "small", "resnet18"} <= set(nets)
    assert nets["resnet18"]["parameters"] == 11_689_512
    facts = json.loads(output("info", trained, "--json"))
    assert facts["agent"] == "dqn"
    assert facts["checkpoints"] == ["step_000000000330"]
    doctor = json.loads(output("doctor", "--json"))
    assert doctor["roms"] > 50
    assert doctor["versions"]["rlsuite"] == rlsuite.__version__
    picture = tmp_path / "curves.png"
    table = json.loads(output("compare", trained, "--out", picture, "--json"))
    assert table["rows"][0]["seeds"] == [1]
    assert picture.read_bytes().startswith(b"\x89PNG")
