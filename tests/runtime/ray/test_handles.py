"""Handles: what was registered travels to workers, and a worker of another version is named."""

import importlib.util
import pickle
import sys
import threading
from pathlib import Path

import pytest
import ray_envs

import rlsuite
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.runs import run_folder
from rlsuite.runtime.ray.handles import PickledEntry, WorkerHandle, refuse_other_versions
from rlsuite.runtime.ray.workers import Facts, ShardWorker


def test_what_was_registered_travels_if_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As itself from a script or a package; from a file that only this process loaded, as the name of what is missed."""
    (tmp_path / "elsewhere_only.py").write_text("class Game: pass\n")
    spec = importlib.util.spec_from_file_location("elsewhere_only", tmp_path / "elsewhere_only.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "elsewhere_only", module)
    spec.loader.exec_module(module)
    game = module.Game()
    for entry in ("ray_envs", ray_envs, ShardWorker, "elsewhere_only:Game"):
        assert pickle.loads(pickle.dumps(PickledEntry(entry))) == entry
    assert pickle.loads(pickle.dumps(PickledEntry(lambda: 7)))() == 7
    assert pickle.loads(pickle.dumps(PickledEntry(threading.Lock()))) == "_thread:lock"  # what cannot be packed at all
    sent = [pickle.dumps(PickledEntry(entry)) for entry in (module, module.Game, lambda: game)]
    monkeypatch.delitem(sys.modules, "elsewhere_only")
    there = [pickle.loads(packed) for packed in sent]
    assert there[:2] == ["elsewhere_only", "elsewhere_only:Game"]
    monkeypatch.setitem(registry.games.registered, "elsewhere", there[0])
    with pytest.raises(
        UsageError, match=r"elsewhere_only is registered but cannot be imported: .*No module named 'elsewhere_only'$"
    ):
        rlsuite.make_game("elsewhere")


def test_a_worker_of_another_version_is_named() -> None:
    worker, own = WorkerHandle("collector", 3, lambda index, restart: None), run_folder.versions()
    refuse_other_versions(worker, Facts("node7", 1, {**own, "numpy": "1.0"}))  # one that need not agree
    with pytest.raises(
        UsageError, match=rf"collector 3 on node7 has python 3.0 \(here {own['python']}\): nodes of a cluster must agree"
    ):
        refuse_other_versions(worker, Facts("node7", 1, {**own, "python": "3.0"}))


@pytest.mark.parametrize(
    ("kind", "index", "name"),
    [("learner", 0, "learner"), ("learner", 1, "learner 1"), ("shard", 0, "shard 0"), ("evaluator", 0, "evaluator")],
)
def test_names_of_workers(kind: str, index: int, name: str) -> None:
    assert WorkerHandle(kind, index, lambda index, restart: None).name == name
