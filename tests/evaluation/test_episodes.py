"""Episodes of an evaluation: which of them are different games, and how it is shown how far it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlsuite
from rlsuite.acting.collector import Collector
from rlsuite.core import cpu
from rlsuite.core.types import Step
from rlsuite.evaluation.compare import compare, format_table
from rlsuite.evaluation.episodes import Traces
from rlsuite.runs import progress
from rlsuite.runs.metrics import read_metrics

TINY: dict[str, Any] = {
    "run.agent_steps": 300,
    "run.threads": 1,
    "replay.min_agent_steps": 100,
    "learner.batch_size": 8,
    "net.hidden": 16,
    "agent.epsilon_eval": 0.0,
    "eval.every_agent_steps": None,
    "eval.episodes": 30,
}


class Walk(gymnasium.Env[np.ndarray[Any, Any], Any]):
    """Ten steps; `start` says what differs between episodes."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space, action_space = spaces.Box(-100, 100, (2,), np.float32), spaces.Discrete(2)

    def __init__(self, start: str = "same", render_mode: str | None = None):
        self.start = start

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.x = 0.0, 0.0
        if self.start == "random":
            self.x = self.np_random.normal()
        if self.start == "later":  # as with no-ops
            self.t = -float(self.np_random.integers(5))
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._observe(), float(self.t > 0), self.t >= 10, False, {}

    def _observe(self) -> np.ndarray[Any, Any]:
        return np.array([max(self.t, 0), self.x], np.float32)


gymnasium.register("rlsuite-tests/Walk-v0", Walk)


def train(folder: Path, start: str, **settings: Any) -> Any:
    return rlsuite.train(
        "classic/dqn", {**TINY, "env.id": "rlsuite-tests/Walk-v0", "env.kwargs": {"start": start}, **settings}, run_dir=folder
    )


def test_an_evaluation_runs_on_one_thread_whatever_updates_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, threads, tick = set(), [1], Collector.tick

    def spied(collector: Collector, agent_steps: int) -> Any:
        if collector.explore:
            torch.set_num_threads(2)  # as measured for updates
        else:
            seen.add(threads[-1])
        return tick(collector, agent_steps)

    monkeypatch.setattr(Collector, "tick", spied)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    try:
        train(tmp_path / "run", "same", **{"run.threads": None})
    finally:
        cpu.set_up(1)
    assert 2 in threads
    assert seen == {1}


@pytest.mark.parametrize(("start", "different"), [("same", 1), ("later", 1), ("random", 30)])
def test_the_different_games_of_an_evaluation_are_counted(start: str, different: int, tmp_path: Path) -> None:
    summary = train(tmp_path / "run", start).evaluation
    assert (summary.mean, summary.episodes, summary.different_games) == (10.0, 30, different)
    assert len(set(summary.lengths)) == (5 if start == "later" else 1)
    assert (summary.mean_interval is None) == (different == 1)


def test_all_that_report_an_evaluation_agree_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run's result, its log, the JSON beside the checkpoint, `evaluate` and `compare`."""
    result = train(tmp_path / "run", "same", **{"run.agent_steps": 400})
    assert "rlsuite: only 1 of 30 games is different, so the interval is unknown" in capsys.readouterr().err
    row = next(row for row in read_metrics(result.run) if "eval/episodic_return" in row)
    assert (row["eval/games"], row["eval/different_games"]) == (30, 1)
    assert "eval/interval" not in row
    [file] = (result.run / "checkpoints").glob("*.evaluation.json")
    written = json.loads(file.read_text())
    assert written["different_games"] == 1
    assert written["mean_interval"] is written["iqm_interval"] is None
    assert {"mean", "median", "iqm", "episodes", "min", "max", "std", "human_normalised", "returns", "lengths"} <= written.keys()
    again = rlsuite.evaluate(result.run, episodes=8)
    assert (again.episodes, again.different_games) == (8, 1)
    assert "rlsuite: only 1 of 8 games is different" in capsys.readouterr().err
    table = format_table(compare([result.run], tmp_path / "curves.png"))
    assert "10.00 ± unknown over 30 games, 1 different" in table


def test_a_log_without_counts_is_compared_as_before(tmp_path: Path) -> None:
    result = train(tmp_path / "run", "random")
    log = result.run / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    kept = [{tag: value for tag, value in row.items() if tag not in ("eval/games", "eval/different_games")} for row in rows]
    log.write_text("".join(json.dumps(row) + "\n" for row in kept))
    [row] = compare([result.run], tmp_path / "curves.png")
    assert (row.best_evaluation, row.best_games) == (10.0, None)
    assert "10.00" in format_table([row])


def test_traces_hold_observations_rewards_and_actions_but_no_last_action() -> None:
    def steps(observation: float = 0, reward: float = 0, action: int = 0, last: bool = False) -> Step:
        flags = np.array([last, False])
        leaves = np.full((2, 3), observation, np.float32), np.full(2, reward, np.float32)
        return Step(*leaves, first=~flags, last=flags, terminal=flags, action=np.full(2, action), extras={})

    def of(*given: Step, env_index: int = 0) -> bytes:
        traces = Traces(2)
        for step in given:
            traces.add(step)
        return traces.take(env_index)

    assert len(of(steps(), steps(1))) == 8
    assert of(steps()) == of(steps()) == of(steps(), env_index=1)
    assert len({of(steps()), of(steps(observation=1)), of(steps(reward=1)), of(steps(action=1))}) == 4
    assert of(steps(action=1, last=True)) == of(steps(action=2, last=True))
    traces = Traces(2)
    traces.add(steps())
    traces.take(0)
    traces.add(steps())
    assert (len(traces.take(0)), len(traces.take(1))) == (4, 8)


def test_the_final_evaluation_is_shown_after_nothing_is_left_to_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def later() -> float:
        clock[0] += 0.1
        return clock[0]

    monkeypatch.setattr(progress.time, "monotonic", later)
    train(tmp_path / "run", "random", **{"eval.episodes": 200})
    lines = capsys.readouterr().err.splitlines()
    begun = lines.index("final evaluation")
    assert lines[begun - 1].startswith("steps 300/300")
    shown = [line for line in lines[begun + 1 :] if line.startswith("steps 300/300")]
    assert shown
    assert all("games" in line and "evaluation" in line and "elapsed" in line for line in shown)
    assert "of 200 games" in shown[-1]


def test_periodic_evaluations_count_their_games_in_the_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str | None] = []
    monkeypatch.setattr(progress.Progress, "update", lambda self, status: shown.append(status.more.get("evaluation")))
    train(tmp_path / "run", "random", **{"eval.every_agent_steps": 100, "eval.every_episodes": 3, "eval.episodes": 2})
    assert None in shown  # training
    assert "0 of 3 games, 0 steps" in shown
    assert "0 of 3 games, 30 steps" in shown
    assert "0 of 2 games, 20 steps" in shown  # the final one
    assert shown.index("0 of 2 games, 0 steps") > shown.index("0 of 3 games, 30 steps")


def test_a_long_evaluation_of_a_saved_agent_shows_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path / "run", "random", **{"eval.episodes": 1}).run
    capsys.readouterr()
    rlsuite.evaluate(run, episodes=40)
    assert capsys.readouterr().err == ""  # it was short
    clock = [0.0]

    def later() -> float:
        clock[0] += 1.0
        return clock[0]

    monkeypatch.setattr(progress.time, "monotonic", later)
    rlsuite.evaluate(run, episodes=40)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(" of 40 games, " in line and " steps  elapsed 0:" in line for line in lines)


@pytest.mark.integration
def test_the_command_prints_the_count_beside_the_mean(tmp_path: Path) -> None:
    file = tmp_path / "walk.py"
    file.write_text(
        "import gymnasium, numpy as np\n"
        "class Walk(gymnasium.Env):\n"
        "    metadata = {'render_modes': []}\n"
        "    observation_space, action_space = gymnasium.spaces.Box(0, 9, (1,), np.float32), gymnasium.spaces.Discrete(2)\n"
        "    def __init__(self, render_mode=None): pass\n"
        "    def reset(self, *, seed=None, options=None): self.t = 0; return np.zeros(1, np.float32), {}\n"
        "    def step(self, action): self.t += 1; return np.zeros(1, np.float32), 1.0, self.t > 4, False, {}\n"
    )
    settings = [f"{key}={'null' if value is None else value}" for key, value in TINY.items()]
    command = [sys.executable, "-m", "rlsuite", "train", "classic/dqn", f"env.id={file}:Walk", *settings, "--run-dir", "run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "return 5.00 ± unknown over 30 games, 1 different" in done.stdout, done.stderr
    done = subprocess.run([*command[:3], "evaluate", "run", "--episodes", "6"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith("return 5.00 ± unknown over 6 games, 1 different")
    assert "only 1 of 6 games is different" in done.stderr
    done = subprocess.run(
        [*command[:3], "evaluate", "run", "--episodes", "6", "--json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert json.loads(done.stdout)["eval"]["different_games"] == 1
