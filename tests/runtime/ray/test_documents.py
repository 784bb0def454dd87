"""The commands of docs/cluster.md and scripts/slurm.sh, in one home in which other programs have used Ray before."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import final
from ray_envs import DQN

ROOT = Path(__file__).parents[3]
COMMANDS = re.findall(r"^rlsuite (train [^#\n]*)", (ROOT / "docs" / "cluster.md").read_text(), re.MULTILINE)
TINY = [f"{key}={'null' if value is None else value}" for key, value in {**DQN, "run.agent_steps": 300}.items()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose earlier programs on Ray have left a token."""
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "rlsuite").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rlsuite "$@"\n')
    (programs / "ray").symlink_to(Path(sys.executable).parent / "ray")
    (programs / "scontrol").write_text("#!/bin/sh\necho localhost\n")
    (programs / "srun").write_text(
        "#!/bin/bash\n"
        "while [[ $1 == -* ]]; do if [[ $1 == -w ]]; then shift; fi; shift; done\n"
        'if [[ $1 == hostname ]]; then echo 127.0.0.1; else exec "$@"; fi\n'
    )
    for program in ("rlsuite", "scontrol", "srun"):
        (programs / program).chmod(0o755)
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")  # for sockets
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    yield {
        **kept,
        "HOME": str(tmp_path / "home"),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]),
        "RAY_TMPDIR": short,
        "OMP_NUM_THREADS": "1",
    }
    shutil.rmtree(short, ignore_errors=True)


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A program in a session of its own, all of which ends with the context."""
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(command: list[str], environment: dict[str, str], **options: Any) -> str:
    done = subprocess.run(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.integration
@pytest.mark.slow
def test_the_commands_of_the_guide_run_on_a_ray_of_their_own(tmp_path: Path, home: dict[str, str]) -> None:
    """Small settings stand for Atari's."""
    assert len(COMMANDS) == 8
    for number, command in enumerate(COMMANDS):
        if "runs/moved" in command:
            moved = command.replace("runs/moved", str(tmp_path / "moved"))
            for documented, small in (("20_000", "300"), ("40_000", "600"), ("60_000", "900")):
                moved = moved.replace(documented, small)
            tiny = [] if "--resume" in command else [setting for setting in TINY if not setting.startswith("run.agent_steps")]
            run(["rlsuite", *moved.split(), *tiny], home)
        elif "address" not in command and "--resume" not in command:
            run(words(command, tmp_path / f"own{number}"), home)
    assert final(tmp_path / "moved").agent_steps == 900


@pytest.mark.integration
@pytest.mark.slow
def test_the_commands_of_the_guide_run_on_a_cluster_that_wants_a_token(tmp_path: Path, home: dict[str, str]) -> None:
    port, client = free_port(), free_port()
    head = ["ray", "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}"]
    with started([*head, "--num-cpus=6", "--include-dashboard=false", "--block"], home):
        deadline = time.monotonic() + 60
        status, told = ["ray", "status", f"--address=127.0.0.1:{port}"], {**home, "RAY_AUTH_MODE": "token"}
        while subprocess.run(status, env=told, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(1)
        for address in ("auto", f"ray://127.0.0.1:{client}", f"127.0.0.1:{port}"):
            command = next(command for command in COMMANDS if "runtime.address" in command)
            there = re.sub(r"runtime.address=\S+", f"runtime.address={address}", command)
            run(words(there, tmp_path / "run"), home)
            assert final(tmp_path / "run").agent_steps >= 300
            if address == f"127.0.0.1:{port}":
                run(["rlsuite", "train", "--resume", str(tmp_path / "run"), "run.agent_steps=500"], home)
                assert final(tmp_path / "run").agent_steps >= 500
            shutil.rmtree(tmp_path / "run")
        refused = subprocess.run(
            words("train classic/dqn runtime=ray " + f"runtime.address=127.0.0.1:{port}", tmp_path / "run"),
            env={**home, "RAY_AUTH_MODE": "disabled"},
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert refused.returncode == 2
        assert "Does the cluster ask for a token (RAY_AUTH_MODE" in refused.stderr.splitlines()[-1]


def words(command: str, folder: Path) -> list[str]:
    """A documented command with a small agent in the place of Atari's, and its run in `folder`."""
    small = re.sub(r"atari/\S+", "classic/dqn runtime=ray", command).replace("runtime.collectors=120", "runtime.collectors=2")
    tiny = [setting for setting in TINY if "ppo" not in small or setting.startswith(("run.agent_steps", "eval"))]
    return ["rlsuite", *small.split(), *tiny, "--run-dir", str(folder)]


@pytest.mark.integration
def test_the_slurm_script_trains_stops_with_a_checkpoint_and_goes_on(tmp_path: Path, home: dict[str, str]) -> None:
    folder = tmp_path / "run"
    home |= {"SLURM_JOB_NODELIST": "localhost", "SLURM_CPUS_PER_TASK": "4", "RLSUITE_RAY_PORT": str(free_port())}
    script = ["bash", str(ROOT / "scripts" / "slurm.sh")]
    given = ["classic/dqn", "runtime=ray", "runtime.collectors=2", *TINY, "run.agent_steps=10000000"]
    with started([*script, *given, f"--run-dir={folder}"], home) as job:
        deadline = time.monotonic() + 120
        while not (folder / "config.yaml").exists():
            assert job.poll() is None, job.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(2)
        job.send_signal(signal.SIGTERM)  # as --signal=B:TERM does
        assert job.wait(timeout=60) == 130
    reached = final(folder).agent_steps
    assert reached > 0
    home["RLSUITE_RAY_PORT"] = str(free_port())
    with started([*script, *given[:-1], f"run.agent_steps={reached + 500}", f"--run-dir={folder}"], home) as job:
        assert job.wait(timeout=120) == 0
    assert final(folder).agent_steps >= reached + 500
