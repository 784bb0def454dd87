"""However a run ends, it can go on: signals at any moment, a closed terminal, code of others that raises."""

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers import final
from ray_envs import DQN, KINDS

import rlsuite
from rlsuite.core.errors import NotFiniteError, RlsuiteError
from rlsuite.runs import checkpoint

integration, slow = pytest.mark.integration, pytest.mark.slow

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def command(run: Path, kind: str, **settings: Any) -> list[str]:
    """The command that begins an endless run, or goes on with it."""
    config, own = KINDS[kind]
    every = {**own, "run.agent_steps": 100_000_000, **settings}
    given = [f"{key}={json.dumps(value)}" for key, value in every.items()]
    begun = (run / "checkpoints").exists()
    where = ["--resume", str(run), *given] if begun else [config, *given, "--run-dir", str(run)]
    return [sys.executable, "-m", "rlsuite", "train", *where]


def environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}  # other tests' Ray may have set some
    return {**ours, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "HOME": str(home)}


def wait_until_it_trains(run: Path, process: "subprocess.Popen[Any]", begun: float) -> None:
    """Until the process has written the run's config."""
    deadline = time.monotonic() + 120
    path = run / "config.yaml"
    while not path.exists() or path.stat().st_mtime < begun:
        assert process.poll() is None, "the training ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end(run: Path, kind: str, numbers: list[int], seconds: float, **settings: Any) -> str:
    """Begins or resumes the run, ends it with the signals after `seconds` of training; what it printed."""
    begun = time.time()
    with open(run.parent / "errors", "w+") as errors:
        home = environment(run.parent)
        process = subprocess.Popen(
            command(run, kind, **settings),
            stdout=errors,
            stderr=errors,
            env=home,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # these tests may run under nohup
        )
        try:
            wait_until_it_trains(run, process, begun)
            time.sleep(seconds)
            for number in numbers:
                process.send_signal(number)
                time.sleep(0.005)  # all of them while the checkpoint is written
            code = process.wait(timeout=120)
        finally:
            process.kill()
        errors.seek(0)
        said = errors.read()
    assert code == 130, said
    return said


def end_many(run: Path, kind: str, times: int, signals: list[signal.Signals], **settings: Any) -> int:
    """Ends a run at random moments, by each signal in turn; every time it goes on from where it was. The last agent steps."""
    rng, reached = random.Random(run.name), 0
    for attempt in range(times):
        number = signals[attempt % len(signals)]
        said = end(run, kind, [number], rng.uniform(0, 3), **settings)
        assert f"stopping ({number.name}): writing a checkpoint" in said
        assert f"continue with: rlsuite train --resume {run}" in said
        steps = final(run).agent_steps
        assert steps >= reached
        reached = steps
    assert reached > 0
    return reached


@integration
def test_a_signal_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    end_many(tmp_path / "run", "dqn", 3, SIGNALS)


@integration
def test_a_signal_at_any_moment_loses_nothing_on_ray(tmp_path: Path) -> None:
    end_many(tmp_path / "run", "dqn", 2, [signal.SIGTERM, signal.SIGHUP], **{"runtime.kind": "ray"})
    assert not (tmp_path / ".ray").exists()  # the own Ray leaves no token, which `ray start` would demand from then on


@slow
@pytest.mark.parametrize("runtime", ["local", "ray"])
@pytest.mark.parametrize("kind", KINDS)
def test_ten_ends_by_each_signal_lose_nothing(tmp_path: Path, kind: str, runtime: str) -> None:
    reached = end_many(tmp_path / "run", kind, 30, SIGNALS, **{"runtime.kind": runtime})
    print(f"{kind} on {runtime}: 30 ends, {reached:,} agent steps")


@integration
def test_more_signals_while_it_saves_change_nothing(tmp_path: Path) -> None:
    """As from a launcher that passes on what its children have received too."""
    end(tmp_path / "run", "dqn", [signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGTERM], 3.0)
    assert final(tmp_path / "run").agent_steps > 0


@integration
@pytest.mark.parametrize("runtime", ["local", pytest.param("ray", marks=slow)])
def test_a_closed_terminal_ends_a_run_with_a_checkpoint(tmp_path: Path, runtime: str) -> None:
    run, begun = tmp_path / "run", time.time()
    master, terminal = pty.openpty()
    arguments = command(run, "dqn", **{"runtime.kind": runtime})
    script = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment(tmp_path),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # these tests may run under nohup
    )
    os.close(terminal)
    os.set_blocking(master, False)
    try:
        wait_until_it_trains(run, process, begun)
        for _ in range(30):
            time.sleep(0.1)
            with contextlib.suppress(BlockingIOError):
                os.read(master, 100_000)
        os.close(master)
        assert process.wait(timeout=120) == 130
    finally:
        process.kill()
    assert final(run).agent_steps > 0


@integration
def test_a_reader_that_has_gone_does_not_cost_the_checkpoint(tmp_path: Path) -> None:
    """`rlsuite train ... | tee log`: Ctrl-C ends tee first."""
    run, begun = tmp_path / "run", time.time()
    process = subprocess.Popen(command(run, "dqn"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(tmp_path))
    try:
        wait_until_it_trains(run, process, begun)
        time.sleep(1)
        assert process.stdout is not None
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
    assert final(run).agent_steps > 0


class Failing(gymnasium.Env[Any, Any]):
    """Episodes of ten steps that raise at the step, or the reset, that a file counts down to."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012
    observation_space, action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)
    steps = resets = 0
    fail_at_step: int | None = None
    fail_at_reset: int | None = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        type(self).resets += 1
        if self.resets == self.fail_at_reset:
            raise KeyError("the reset failed")
        self.t = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        type(self).steps += 1
        if self.steps == self.fail_at_step:
            raise ZeroDivisionError("the step failed")
        self.t += 1
        return np.ones(1, np.float32), 1.0, self.t == 10, False, {}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[Failing]:
    for name in ("steps", "resets"):
        monkeypatch.setattr(Failing, name, 0)
    if "T/Failing-v0" not in gymnasium.registry:
        gymnasium.register("T/Failing-v0", entry_point=Failing)
    return Failing


@pytest.mark.parametrize("kind", ["dqn", "ppo"])
@pytest.mark.parametrize("place", ["fail_at_step", "fail_at_reset"])
def test_an_environment_that_raises_leaves_a_checkpoint_of_what_was_trained(
    tmp_path: Path,
    kind: str,
    place: str,
    failing: type[Failing],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, settings = KINDS[kind]
    settings = {**settings, "env.id": "T/Failing-v0", "env.num_envs": 4, "run.agent_steps": 3_000}
    monkeypatch.setattr(Failing, place, 2_000 if place == "fail_at_step" else 200)
    run = tmp_path / "a run"
    with pytest.raises(RlsuiteError, match="failed") as raised:
        rlsuite.train(config, settings, run_dir=run)
    assert raised.value.exit_code == 1
    saved = final(run)
    assert 1_500 < saved.agent_steps < 2_300
    assert saved.state["learner"]["steps"] > 10
    said = capsys.readouterr().err.splitlines()
    assert (
        f"rlsuite: stopped at step {saved.agent_steps:,} by an error; continue from step {saved.agent_steps:,} with: " in said[-1]
    )
    assert said[-1].endswith(f"rlsuite train --resume '{run}'")
    monkeypatch.setattr(Failing, place, None)
    done = rlsuite.train(None, {}, resume=run)
    assert done.agent_steps == 3_000
    assert "not kept as it was: the running episodes" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**DQN, "learner.learning_rate": 1e30, "run.agent_steps": 4_000, "run.log_seconds": 1e-9}
    with pytest.raises(NotFiniteError, match="is not finite"):
        rlsuite.train("classic/dqn", settings, run_dir=tmp_path / "run")
    assert checkpoint.list_complete(tmp_path / "run") == []
    assert "there is no checkpoint to continue from" in capsys.readouterr().err
