"""The guides' own code, run as a reader would: from a file, by registration, and as an installed package; locally and on Ray."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rlsuite
from rlsuite.core.errors import UsageError

ROOT = Path(rlsuite.__file__).resolve().parents[1]
TINY = ["run.threads=1", "run.agent_steps=400", "eval.episodes=2", "eval.every_agent_steps=null", "eval.stop_at_return=null"]
SMALL = [*TINY, "replay.min_agent_steps=100", "net.hidden=16", "learner.batch_size=16"]
RECALL = [*TINY, "replay.min_agent_steps=100", "net.hidden=16", "net.memory_size=8", "learner.batch_size=4"]
ON_RAY = ["runtime=ray", "runtime.collectors=2"]


def blocks(guide: str, language: str) -> list[str]:
    text = (ROOT / "docs" / guide).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def write(folder: Path, guide: str, name: str, block: int = 0) -> None:
    (folder / name).write_text(blocks(guide, "python")[block])


def install(folder: Path, entry_points: str) -> None:
    """What pip leaves behind of a package with entry points."""
    info = folder / "mine-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    groups = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", entry_points)
    (info / "entry_points.txt").write_text(re.sub(r'"(\w.*?)"', r"\1", groups))


def cli(folder: Path, *arguments: str, path: bool = False) -> str:
    """Runs rlsuite in `folder`, with `folder` among the installed packages if `path`; -> its stdout."""
    paths = [str(ROOT), *([str(folder)] if path else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "rlsuite", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def trained(folder: Path, *arguments: str, path: bool = False) -> str:
    found = json.loads(cli(folder, "train", *arguments, "--json", path=path))
    assert found["learner_steps"] > 0
    return str(found["run"])


RUNTIMES = [pytest.param([], id="local"), pytest.param(ON_RAY, id="ray", marks=pytest.mark.integration)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_agent_trains_from_its_file(runtime: list[str], tmp_path: Path) -> None:
    write(tmp_path, "own-agent.md", "my_agent.py")
    assert len((tmp_path / "my_agent.py").read_text().splitlines()) <= 80
    run = trained(tmp_path, "classic/dqn", "agent.name=my_agent.py:MyAgent", "agent.alpha=0.8", *SMALL, *runtime)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cli(elsewhere, "evaluate", str(tmp_path / run), "--episodes", "1")


@pytest.mark.integration
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_agent_trains_as_an_installed_package(runtime: list[str], tmp_path: Path) -> None:
    write(tmp_path, "own-agent.md", "my_agent.py")
    install(tmp_path, blocks("own-agent.md", "toml")[0])
    assert "munchausen" in cli(tmp_path, "list", "agents", path=True).split()
    trained(tmp_path, "classic/dqn", "agent.name=munchausen", *SMALL, *runtime, path=True)


def test_the_agents_own_keys_are_documented_and_checked(tmp_path: Path) -> None:
    write(tmp_path, "own-agent.md", "my_agent.py")
    name = f"agent.name={tmp_path}/my_agent.py:MyAgent"
    assert "weight of the log-policy in the reward" in cli(tmp_path, "config", "classic/dqn", name)
    with pytest.raises(UsageError, match=r"agent\.alphs; did you mean agent\.alpha"):
        rlsuite.train("classic/dqn", [name, "agent.alphs=1"])


@pytest.mark.slow
def test_the_agent_solves_cartpole(tmp_path: Path) -> None:
    write(tmp_path, "own-agent.md", "my_agent.py")
    result = rlsuite.train("classic/dqn", [f"agent.name={tmp_path}/my_agent.py:MyAgent", "run.threads=1"], run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean >= 475


@pytest.mark.integration
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_environment_trains_from_its_file(runtime: list[str], tmp_path: Path) -> None:
    write(tmp_path, "own-env.md", "my_env.py")
    mine = ["env.id=my_env.py:Corridor", "env.kwargs.length=10", "env.max_episode_steps=50"]
    run = trained(tmp_path, "classic/dqn", *mine, *SMALL, *runtime)
    cli(tmp_path, "evaluate", run, "--episodes", "2")


@pytest.mark.integration
def test_the_environment_is_solved(tmp_path: Path) -> None:
    write(tmp_path, "own-env.md", "my_env.py")
    mine = [f"env.id={tmp_path}/my_env.py:Corridor", "env.max_episode_steps=50", "agent.epsilon_decay_agent_steps=1000"]
    result = rlsuite.train("classic/dqn", [*mine, *SMALL, "run.agent_steps=3000"], run_dir=tmp_path / "run")
    assert result.evaluation is not None
    assert result.evaluation.mean > 0.9


@pytest.mark.integration
def test_a_family_of_environments_is_registered_by_id(tmp_path: Path) -> None:
    body = blocks("own-env.md", "python")[2]
    (tmp_path / "maze.py").write_text(
        "from rlsuite.envs import recall\n"
        + body
        + "    return recall.make(recall.Config(id=config.id), num_envs, threads, render)\n"
    )
    install(tmp_path, '[project.entry-points."rlsuite.envs"]\n"mine/Maze-v0" = "maze"\n')
    trained(tmp_path, "classic/recall_r2d2", "env={id: mine/Maze-v0, difficulty: 2}", *RECALL, path=True)


@pytest.mark.integration
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_torso_trains_from_its_file(runtime: list[str], tmp_path: Path) -> None:
    write(tmp_path, "own-net.md", "my_net.py")
    trained(tmp_path, "classic/dqn", "net.torso=my_net.py:Fourier(scale=2.0)", *SMALL, *runtime)


@pytest.mark.integration
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_memory_core_trains_from_its_file(runtime: list[str], tmp_path: Path) -> None:
    write(tmp_path, "own-net.md", "my_net.py")
    longer = ["run.agent_steps=2000"] if runtime else []  # two collectors fill twice as many sequences
    run = trained(tmp_path, "classic/recall_r2d2", "net.memory=my_net.py:Average(decay=0.95)", *RECALL, *longer, *runtime)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cli(elsewhere, "evaluate", str(tmp_path / run), "--episodes", "1")


@pytest.mark.integration
def test_torso_and_core_train_as_an_installed_package(tmp_path: Path) -> None:
    write(tmp_path, "own-net.md", "my_net.py")
    install(tmp_path, blocks("own-net.md", "toml")[0])
    trained(tmp_path, "classic/recall_r2d2", "net.memory=average", "net.torso=fourier", *RECALL, path=True)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("net.torso=my_net.py:Fourier(skale=2.0)", "did you mean scale"),
        ("net.torso=my_net.py:Furier", "did you mean Fourier"),
        ("net.torso=other_net.py:Fourier", "other_net.py does not exist"),
        ("net.memory=my_net.py:Avrage", "did you mean Average"),
        ("env.id=my_net.py:Nothing", "has no Nothing"),
    ],
)
def test_mistakes_are_told_in_one_line(override: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "own-net.md", "my_net.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=told) as caught:
        rlsuite.train("classic/recall_r2d2", [override, *RECALL])
    assert "\n" not in str(caught.value)


@pytest.mark.integration
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_callback_ends_a_run_that_does_not_improve(runtime: list[str], tmp_path: Path) -> None:
    write(tmp_path, "watching.md", "patience.py")
    evaluated = ["eval.every_agent_steps=200", "eval.every_episodes=1", "run.agent_steps=1000000", "agent.epsilon_eval=0"]
    still = ["learner.learning_rate=1e-12", "learner.learning_rate_end=null"]
    run = trained(tmp_path, "classic/dqn", *SMALL, *evaluated, *still, "run.callbacks=patience.py:Patience(steps=400)", *runtime)
    assert "callbacks:\n  - " in (tmp_path / run / "config.yaml").read_text()


def test_an_exported_agent_plays_without_rlsuite(tmp_path: Path) -> None:
    """The script of docs/export.md, where rlsuite cannot be imported."""
    script = blocks("export.md", "python")[0]
    assert len(script.splitlines()) <= 40
    assert "rlsuite" not in script
    (tmp_path / "player.py").write_text(script)
    cli(tmp_path, "export", "pretrained:pong", "--out", "pong")
    hide = "import sys; sys.modules['rlsuite'] = sys.modules['torch'] = None; sys.argv = ['player.py', 'pong', '2']; "
    run = "exec(compile(open('player.py').read(), 'player.py', 'exec'))"
    done = subprocess.run([sys.executable, "-c", hide + run], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) >= 18
    assert done.stdout.endswith("over 2 games\n")
