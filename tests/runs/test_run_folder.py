"""Where new runs go."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import rlsuite
from rlsuite.config.loader import resolve
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.runs import run_folder
from rlsuite.vision.config import load_config


@pytest.fixture(autouse=True)
def in_one_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-120000")


@pytest.mark.parametrize("config", [resolve("classic/dqn"), load_config("vision/digits")], ids=lambda one: one.name)
def test_runs_that_start_in_the_same_second_get_folders_of_their_own(config: run_folder.AnyConfig) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: run_folder.new_path(config), range(32)))
    assert len(set(found)) == 32
    first = Path("runs") / f"{config.name.replace('/', '-')}__seed1__20260101-120000"
    assert {first, Path(f"{first}-2"), Path(f"{first}-32")} <= set(found)
    assert all(folder.is_dir() for folder in found)
    assert run_folder.new_path(resolve("classic/ppo")).name == "classic-ppo__seed1__20260101-120000"


def test_a_run_goes_to_the_folder_that_was_made_for_it() -> None:
    tiny = {"run.agent_steps": 50, "run.threads": 1, "eval.every_agent_steps": None, "eval.episodes": 1}
    runs = [rlsuite.train("classic/dqn", tiny).run for _ in range(2)]
    assert [run.name for run in runs] == [f"classic-dqn__seed1__20260101-120000{end}" for end in ("", "-2")]
    assert all((run / "config.yaml").exists() for run in runs)


def test_what_is_refused_leaves_no_folder() -> None:
    with pytest.raises(UsageError):
        rlsuite.train("classic/dqn", {"env.id": "Pendulum-v1"})
    with pytest.raises(UsageError, match=r"stages\.one"):
        rlsuite.train("classic/dqn", {"stages": {"one": {"run": {"agent_step": 3}}}})
    assert not Path("runs").exists()


def test_a_place_that_cannot_be_written_to_is_told_in_one_line() -> None:
    Path("runs").write_text("")
    with pytest.raises(RlsuiteError, match=r"^cannot write runs: File exists; remove what is in the way, or choose"):
        run_folder.new_path(resolve("classic/dqn"))


@pytest.mark.parametrize("folder", ["", "."])
def test_an_empty_run_folder_is_refused(folder: str) -> None:
    with pytest.raises(UsageError, match="--run-dir is empty or the current folder"):
        rlsuite.train("classic/dqn", {"run.agent_steps": 10}, run_dir=folder)
    assert not Path("config.yaml").exists()


def test_a_run_that_has_written_nothing_yet_is_told_to_be_in_use(tmp_path: Path) -> None:
    # flock belongs to the open file, so a second one in this process is refused as in another.
    with run_folder.lock(tmp_path / "run"), pytest.raises(UsageError, match="in use: another process is training in it"):
        rlsuite.train(resume=tmp_path / "run")
