"""Checkpoints: exact round trips, damage that is reported, and a complete one on disk whenever a process dies."""

import errno
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.runs import checkpoint
from rlsuite.runs.checkpoint.files import HashingFile


def same(left: Any, right: Any) -> bool:
    """Whether two states are equal in type, shape, dtype and bits at every level."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        left, right = (one.contiguous().reshape(-1).view(torch.uint8) for one in (left, right))
        return bool(torch.equal(left, right))
    if isinstance(left, np.ndarray):
        same_kind = left.dtype == right.dtype and left.shape == right.shape
        return bool(same_kind and left.tobytes() == right.tobytes())
    if isinstance(left, dict):
        return list(left) == list(right) and all(
            type(a) is type(b) and same(left[a], right[b]) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right) if isinstance(left, float) else bool(left == right)


def write(run: Path, steps: int, value: int | None = None) -> Path:
    """Saves a small checkpoint in which every part holds `value`, so that a mixture of two would show."""
    value = steps if value is None else value
    state = {
        "value": value,
        "learner": {"target": torch.full((4, 3), value, dtype=torch.int64)},
        "replay": {"observation": np.full((5, 7), value), "done": np.full(3, value)},
    }
    return checkpoint.save(run, steps, {"w": torch.full((3,), value, dtype=torch.int64)}, state, {"value": value})


def value_of(path: Path, weights_only: bool = False) -> int:
    """The one value that a checkpoint from `write` holds; fails if its parts differ."""
    loaded = checkpoint.load(path, weights_only=weights_only)
    values = {loaded.metadata["value"], *loaded.weights["w"].tolist()}
    if not weights_only:
        state = loaded.state
        values |= {state["value"], *state["learner"]["target"].flatten().tolist()}
        values |= {*state["replay"]["observation"].flatten().tolist(), *state["replay"]["done"].tolist()}
    assert len(values) == 1
    return int(values.pop())


def names(run: Path) -> list[str]:
    return sorted(entry.name for entry in (run / "checkpoints").iterdir())


def reseal(path: Path, *files: str) -> None:
    """Makes the manifest agree with the files as they are now, as a forger would."""
    manifest = json.loads((path / "COMPLETE").read_bytes())
    for name in files:
        data = (path / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "COMPLETE").write_text(json.dumps(manifest))


# ---------------------------------------------------------------------------------------------------------- round trip

generator = np.random.default_rng(3)
base = torch.arange(24.0).reshape(4, 6)

VALUES: dict[str, Any] = {
    "scalars": {"none": None, "yes": True, "no": False, "text": 'é \ud800 \n"', "one": 1, "real": 0.1, "zero": -0.0},
    "big ints": [2**63, -(2**127) - 1, 10**5000, -(2**63)],
    "floats": [float("nan"), float("inf"), -float("inf"), 5e-324, 1e308],
    "empty": {"dict": {}, "list": [], "tuple": (), "": {"": 1}},
    "int keys": {0: "a", -1: "b", "0": "c", 2**70: "d"},
    "keys like references": {"$tensor": "x", "$array": {"$tuple": []}, "a": {"$": 1}},
    "lists": [1, (2.5, [torch.ones(2), {"x": np.zeros(1), 3: (torch.zeros(1),)}]), None],
    "tensors": {"0d": torch.tensor(3.5), "empty": torch.empty(0, 3), "bf16": torch.randn(3, 5).bfloat16()},
    "tensor dtypes": {
        str(dtype): torch.arange(6).to(dtype)
        for dtype in (torch.float64, torch.float16, torch.int8, torch.uint8, torch.int16, torch.int32, torch.bool)
    },
    "tensor nan": torch.tensor([float("nan"), float("inf"), -0.0]),
    "not contiguous": {"transposed": base.T, "strided": base[:, ::2], "expanded": torch.ones(1).expand(4)},
    "channels last": torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "shared": {"a": base, "b": base, "row": base[1]},
    "arrays": {"0d": np.array(2), "empty": np.empty((0, 4), np.uint8), "bool": np.array([True, False])},
    "array dtypes": [np.arange(4).astype(dtype) for dtype in ("u1", "i8", "f2", ">i2", "c16", "U3", "M8[s]")],
    "structured": np.zeros(3, np.dtype([("a", "i1"), ("b", "f8", (2,))])),
    "array strides": {"reversed": np.arange(9)[::-2], "fortran": np.asfortranarray(np.arange(6).reshape(2, 3))},
    "names that collide": {
        "a/b": np.array(1),
        "a": {"b": np.array(2), "b.npy": {"c": np.array(3)}},
        "A": {"B": np.array(4)},
        "..": {"..": np.array(5), "x" * 300: np.array(6)},
        "é": torch.ones(1),
        "è": torch.zeros(1),
        "__metadata__": torch.ones(2),
    },
    "pcg64": np.random.PCG64(1).state,
    "mt19937": np.random.MT19937(1).state,
    "python random": random.Random(1).getstate(),
}


@pytest.mark.parametrize("name", VALUES)
def test_state_comes_back_exactly(tmp_path: Path, name: str) -> None:
    state = {"value": VALUES[name]}
    loaded = checkpoint.load(checkpoint.save(tmp_path, 7, {}, state, {"scores": [1.5, None]}))
    assert same(loaded.state, state)
    assert (loaded.agent_steps, loaded.weights, loaded.metadata) == (7, {}, {"scores": [1.5, None]})


def test_all_values_fit_in_one_checkpoint_as_standard_json(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 0, {}, VALUES, {"best": float("nan")})
    assert same(checkpoint.load(path).state, VALUES)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    json.loads((path / "state.json").read_text(), parse_constant=refuse)


def test_layout_on_disk(tmp_path: Path) -> None:
    state = {"learner": {"optimizer": {0: {"exp_avg": torch.ones(2)}}}, "replay": {"observation": np.ones(3)}, "n": 2}
    path = checkpoint.save(tmp_path, 400, {"w": torch.ones(1)}, state, {})
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert path == tmp_path / "checkpoints" / "step_000000000400"
    assert files == {
        "weights.safetensors",
        "tensors.safetensors",
        "state.json",
        "arrays/replay/observation.npy",
        "COMPLETE",
    }
    saved = json.loads((path / "state.json").read_bytes())["state"]
    reference = {"$tensor": "learner/optimizer/0/exp_avg"}
    assert saved["learner"]["optimizer"] == {"$items": [[0, {"exp_avg": reference}]]}
    assert saved["replay"] == {"observation": {"$array": "replay/observation.npy"}}
    manifest = json.loads((path / "COMPLETE").read_bytes())
    assert set(manifest["files"]) == files - {"COMPLETE"}


def test_loaded_generators_go_on_where_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rng.random(3)
    path = checkpoint.save(tmp_path, 1, {}, {"rng": rng.bit_generator.state, "torch": torch.get_rng_state()}, {})
    expected, torch_expected = rng.random(4), torch.rand(4)
    state = checkpoint.load(path).state
    again = np.random.default_rng(0)
    again.bit_generator.state = state["rng"]
    torch.set_rng_state(state["torch"])
    assert np.array_equal(again.random(4), expected)
    assert torch.equal(torch.rand(4), torch_expected)


def test_adam_and_net_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    def train(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for i in range(3):
            optimizer.zero_grad()
            net(torch.full((2, 4), float(i))).square().sum().backward()
            optimizer.step()

    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        return net, torch.optim.Adam(net.parameters(), lr=0.01)

    net, optimizer = build()
    train(net, optimizer)
    path = checkpoint.save(tmp_path, 3, net.state_dict(), {"optimizer": optimizer.state_dict()}, {})
    loaded = checkpoint.load(path)
    assert same(loaded.state["optimizer"], optimizer.state_dict())
    train(net, optimizer)

    other, other_optimizer = build()
    checkpoint.load_weights_into(other, loaded.weights, str(path))
    other_optimizer.load_state_dict(loaded.state["optimizer"])
    train(other, other_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_weights_may_be_parameters_that_share_memory(tmp_path: Path) -> None:
    first = nn.Linear(3, 3)
    weights = {"a": first.weight, "tied": first.weight, "transposed": first.weight.T, "b": first.bias.bfloat16()}
    loaded = checkpoint.load(checkpoint.save(tmp_path, 1, weights, {}, {})).weights
    assert loaded.keys() == weights.keys()
    assert all(same(loaded[name], weights[name].detach().clone()) for name in weights)
    assert not any(tensor.requires_grad for tensor in loaded.values())


def test_loaded_tensors_own_their_memory(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"a": torch.ones(3), "b": torch.ones(5)}, {"t": torch.ones(3)}, {})
    loaded = checkpoint.load(path)
    for tensor in (*loaded.weights.values(), loaded.state["t"]):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
        assert tensor.data_ptr() % 16 == 0


def test_our_safetensors_files_are_read_by_the_library_and_aligned(tmp_path: Path) -> None:
    weights = {"flag": torch.tensor([True]), "half": torch.ones(3).half(), "wide": torch.arange(2.0).double()}
    file = checkpoint.save(tmp_path, 1, weights, {}, {}) / "weights.safetensors"
    with safe_open(file, framework="np") as reader:
        assert {name: reader.get_tensor(name).tolist() for name in weights} == {
            name: tensor.tolist() for name, tensor in weights.items()
        }
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    for name, tensor in weights.items():
        assert (start + header[name]["data_offsets"][0]) % tensor.element_size() == 0


class Colour(int, Enum):
    RED = 1


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (np.float64(1.0), "numpy.float64 (call .item() first)"),
        (np.int32(1), "numpy.int32"),
        (np.str_("x"), "numpy.str_"),
        (Colour.RED, "Colour"),
        (object(), "builtins.object"),
        ({1, 2}, "builtins.set"),
        (b"x", "builtins.bytes"),
        (1j, "builtins.complex"),
        (torch.float32, "torch.dtype"),
        (np.array([None]), "dtype object"),
        (np.zeros(2, np.dtype([("a", "O")])), "dtype [('a', 'O')]"),
        (np.ma.masked_array([1], [True]), "MaskedArray"),
        (torch.zeros(2).to_sparse(), "sparse"),
        (torch.zeros(2, device="meta"), "meta"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        ({True: 1}, "key"),
        ({1.5: 1}, "key"),
        ({None: 1}, "key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_other_leaf_is_named_and_nothing_is_written(tmp_path: Path, leaf: Any, message: str) -> None:
    with pytest.raises(TypeError, match=rf"^learner/rng/1: .*{re.escape(message)}"):
        checkpoint.save(tmp_path, 1, {}, {"learner": {"rng": [1, leaf]}}, {})
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"weights\['w'\]"):
        checkpoint.save(tmp_path, 1, {"w": np.ones(1)}, {}, {})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="metadata/x"):
        checkpoint.save(tmp_path, 1, {}, {}, {"x": torch.ones(1)})
    with pytest.raises(ValueError, match="agent_steps"):
        checkpoint.save(tmp_path, -1, {}, {}, {})
    with pytest.raises(ValueError, match="keep_last"):
        checkpoint.prune(tmp_path, 0, set())
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------- find


def test_find_takes_the_newest_complete_one_of_a_run(tmp_path: Path) -> None:
    paths = [write(tmp_path, steps) for steps in (1_000, 200, 10**12, 30)]
    assert checkpoint.list_complete(tmp_path) == [paths[3], paths[1], paths[0], paths[2]]
    assert checkpoint.find(tmp_path) == paths[2]
    (paths[2] / "COMPLETE").unlink()
    shutil.copytree(paths[0], tmp_path / "checkpoints" / ".tmp-step_000000009999-1")
    shutil.copytree(paths[0], tmp_path / "checkpoints" / "copy of mine")
    assert checkpoint.find(tmp_path) == paths[0]
    assert checkpoint.find(paths[1]) == paths[1]
    assert checkpoint.find(tmp_path / "checkpoints" / "copy of mine").name == "copy of mine"


def test_find_says_what_it_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pong-dqn").mkdir()
    (tmp_path / "fresh" / "checkpoints").mkdir(parents=True)
    (tmp_path / "file").touch()
    complete, broken = write(tmp_path / "run", 5), write(tmp_path / "run", 6)
    (broken / "COMPLETE").unlink()

    def refusal(path: Path) -> str:
        with pytest.raises(UsageError) as caught:
            checkpoint.find(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refusal(tmp_path / "pong-dqn").endswith("pong-dqn is not a run folder: no checkpoints/ in it")
    assert refusal(tmp_path / "fresh").endswith("fresh has no complete checkpoint yet")
    assert refusal(tmp_path / "pong-dpn").endswith(f"does not exist; did you mean {tmp_path / 'pong-dqn'}?")
    assert "pong-dqn" in refusal(tmp_path / "pong-dpn" / "checkpoints" / "step_000000000001")
    assert refusal(tmp_path / "zzzzzz").endswith("zzzzzz does not exist")
    assert "expected a run folder or a checkpoint folder" in refusal(tmp_path / "file")
    assert refusal(broken).endswith(f"not a complete checkpoint: no COMPLETE in it; use {complete} instead")
    assert "give the folder above" in refusal(tmp_path / "run" / "checkpoints")
    assert checkpoint.list_complete(tmp_path / "pong-dqn") == []
    monkeypatch.chdir(tmp_path / "pong-dqn")
    assert refusal(Path()) == ". is not a run folder: no checkpoints/ in it"


# -------------------------------------------------------------------------------------------------------------- damage

FILES = ["weights.safetensors", "tensors.safetensors", "state.json", "arrays/replay/observation.npy"]


def remove(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def flip_last_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def swap(file: Path) -> None:
    """The same file of another checkpoint."""
    shutil.copyfile(str(file).replace("step_000000000020", "step_000000000010"), file)


DAMAGE = {
    "missing": (remove, "is missing"),
    "truncated": (truncate, "bytes, "),
    "flipped": (flip_last_bit, "is not what was written"),
    "swapped": (swap, "is not what was written"),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_with_an_older_checkpoint_to_use(tmp_path: Path, file: str, kind: str) -> None:
    older, damaged, _ = (write(tmp_path, steps) for steps in (10, 20, 30))
    spoil, message = DAMAGE[kind]
    spoil(damaged / file)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(damaged)
    assert str(caught.value).startswith(f"{damaged / file} ")
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"; use {older} instead")
    assert "\n" not in str(caught.value)
    if file in ("weights.safetensors", "state.json"):
        with pytest.raises(CheckpointError):
            checkpoint.load(damaged, weights_only=True)
    else:
        assert value_of(damaged, weights_only=True) == 20


def test_damage_to_the_only_checkpoint_recommends_none(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    remove(path / "state.json")
    with pytest.raises(CheckpointError, match=r"state\.json is missing$"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 0, "arrays_dropped": false, "files": {}}', "is damaged"),
        ('{"format": 1}', r"was written in checkpoint format 1 by an older rlsuite, .*use the one that wrote it"),
        ('{"format": 2, "arrays_dropped": false, "files": {}}', "is not listed"),
        (
            '{"format": 2, "arrays_dropped": false, "files": {"../x": {"bytes": 1, "sha256": ""}}}',
            "outside the checkpoint",
        ),
        ('{"format": 3, "what": "may look quite different"}', "has checkpoint format 3.*upgrade rlsuite"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_reported(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, 1)
    (path / "COMPLETE").write_text(text)
    for weights_only in (False, True):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(path, weights_only=weights_only)


def test_a_damaged_manifest_is_not_taken_for_one_without_arrays(tmp_path: Path) -> None:
    (write(tmp_path, 1) / "COMPLETE").write_text("[]")
    with pytest.raises(CheckpointError, match=r"COMPLETE is damaged \(its fields are not those of a manifest\)"):
        checkpoint.find(tmp_path, resumable=True)


def test_an_older_format_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {}, {}, {"versions": {"rlsuite": "0.0.9"}})
    (path / "COMPLETE").write_text('{"format": 1}')
    with pytest.raises(CheckpointError, match=r"was written in checkpoint format 1 by rlsuite 0\.0\.9, this rlsuite"):
        checkpoint.load(path)


def test_load_of_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a complete checkpoint"):
        checkpoint.load(tmp_path)


# ------------------------------------------------------------------------------------------------------- foreign files


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (os.mkdir, (str(self.sprung),))


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


def test_planted_pickles_are_never_opened(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", write(tmp_path / "run", 4)
    for name in ("state.pkl", "weights.pt", "arrays/replay/extra.npy", "arrays/replay/observation.pkl"):
        (path / name).write_bytes(pickle.dumps(Trap(sprung)))
    assert value_of(path) == 4
    assert not sprung.exists()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("form", ["pickle", "object array", "torch", "zip of arrays"])
def test_a_pickle_in_place_of_a_listed_file_is_refused(tmp_path: Path, file: str, form: str) -> None:
    sprung, path = tmp_path / "sprung", write(tmp_path / "run", 4)
    with (path / file).open("wb") as out:
        if form == "pickle":
            pickle.dump(Trap(sprung), out)
        elif form == "object array":
            np.save(out, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
        elif form == "torch":
            torch.save(Trap(sprung), out)
        else:
            np.savez(out, a=np.array([Trap(sprung)], dtype=object))
    reseal(path, file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    "node",
    [
        {"$array": "../../outside.npy"},
        {"$array": "unlisted.npy"},
        {"$tensor": "unknown"},
        {"$code": "1"},
        {"$tuple": 3},
        {"$tensor": "learner/target", "more": 1},
    ],
    ids=str,
)
def test_references_to_elsewhere_are_refused(tmp_path: Path, node: Any) -> None:
    path = write(tmp_path, 4)
    np.save(tmp_path / "outside.npy", np.ones(1))
    np.save(path / "arrays" / "unlisted.npy", np.ones(1))
    document = json.loads((path / "state.json").read_bytes())
    document["state"] = {"x": node}
    (path / "state.json").write_text(json.dumps(document))
    reseal(path, "state.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)


# ------------------------------------------------------------------------------------------------ disks that say no


@pytest.mark.parametrize("write_call", [0, 1, 3, 8])
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "permission"),
        (errno.EIO, "check that"),
    ],
)
def test_a_failed_write_leaves_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_call: int, number: int, advice: str
) -> None:
    write(tmp_path, 1)
    real, calls = HashingFile.write, iter(range(1000))

    def failing(self: HashingFile, data: bytes) -> int:
        if next(calls) >= write_call:
            raise OSError(number, os.strerror(number))
        return real(self, data)

    monkeypatch.setattr(HashingFile, "write", failing)
    for steps in (1, 2):
        with pytest.raises(CheckpointError) as caught:
            write(tmp_path, steps, value=9)
        text = str(caught.value)
        assert text.startswith(f"cannot save {tmp_path / 'checkpoints' / f'step_{steps:012d}'}: {os.strerror(number)}")
        assert advice in text
        assert "--run-dir" in text
        assert "step_000000000001, is untouched" in text
        assert "\n" not in text
    assert names(tmp_path) == ["step_000000000001"]
    assert value_of(checkpoint.find(tmp_path)) == 1


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="no earlier one exists"):
        write(tmp_path / "file", 1)


def test_an_interrupt_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlsuite.runs.checkpoint.store.sync_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2)
    assert names(tmp_path) == ["step_000000000001"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    write(small_disk, 1)
    for state in ({"replay": np.ones(2 << 20, np.uint8)}, {"net": torch.ones(2 << 20, dtype=torch.uint8)}):
        with pytest.raises(CheckpointError, match=r"No space left.*2\.0 MiB.*step_000000000001, is untouched"):
            checkpoint.save(small_disk, 2, {}, state, {})
    assert names(small_disk) == ["step_000000000001"]
    assert value_of(checkpoint.find(small_disk)) == 1
    write(small_disk, 3)


# ------------------------------------------------------------------------------------------- processes that die

CALLS = ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir")  # everything that changes what a later process finds


def trip(patch: Callable[[str, Any], None], at: int, action: Callable[[], Any]) -> None:
    """Runs `action` in place of call number `at` (from 0) of the `os` functions in CALLS."""
    count = iter(range(1_000_000))

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return action() if next(count) == at else real(*args, **kwargs)

        return wrapped

    for name in CALLS:
        patch(name, wrap(getattr(os, name)))


def in_child(work: Callable[[], None]) -> int:
    """Starts `work` in a forked process, where torch is already imported, and returns its id; it exits with 0 when done."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def save_next(run: Path) -> None:
    write(run, 2)


def save_again(run: Path) -> None:
    write(run, 1, value=2)


def save_over_incomplete(run: Path) -> None:
    (run / "checkpoints" / "step_000000000002").mkdir()
    write(run, 2)


def drop(run: Path) -> None:
    checkpoint.drop_arrays(run / "checkpoints" / "step_000000000000")


def prune(run: Path) -> None:
    checkpoint.prune(run, keep_last=1, keep=set())


def check_after(run: Path) -> None:
    """Asserts that at least one complete checkpoint is found and whole, and that the next save cleans up the rest."""
    assert value_of(checkpoint.find(run)) in (1, 2)
    for path in checkpoint.list_complete(run):
        value_of(path, weights_only=True)
        try:
            value_of(path)
        except CheckpointError as error:
            message = str(error)
            assert "were dropped" in message
    write(run, 3)
    assert not [name for name in names(run) if name.startswith(".")]
    assert value_of(checkpoint.find(run)) == 3
    assert value_of(checkpoint.list_complete(run)[-2]) in (1, 2)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A run with complete checkpoints at 0 and 1."""
    for steps in (0, 1):
        write(tmp_path / "two", steps)
    return tmp_path / "two"


@pytest.mark.integration
@pytest.mark.parametrize("work", [save_next, save_again, save_over_incomplete, drop, prune])
def test_killed_before_any_of_its_calls_a_process_leaves_a_complete_checkpoint(two: Path, work: Any) -> None:
    for at in range(200):
        run = two.parent / str(at)
        shutil.copytree(two, run)

        def die_at(run: Path = run, at: int = at) -> None:
            trip(partial(setattr, os), at, lambda: os._exit(77))
            work(run)

        _, status = os.waitpid(in_child(die_at), 0)
        if os.waitstatus_to_exitcode(status) == 0:
            break
        assert os.waitstatus_to_exitcode(status) == 77
        check_after(run)
    else:
        pytest.fail("it never ended")
    assert at >= 3
    check_after(run)


@pytest.mark.parametrize("work", [save_next, save_again, drop, prune])
def test_a_call_that_fails_is_reported_and_leaves_a_complete_checkpoint(two: Path, work: Any) -> None:
    messages = []
    for at in range(200):
        run = two.parent / str(at)
        failed: list[OSError] = []
        shutil.copytree(two, run)

        def fail(failed: list[OSError] = failed) -> None:
            failed.append(OSError(errno.EIO, os.strerror(errno.EIO)))
            raise failed[0]

        with pytest.MonkeyPatch.context() as patch:
            trip(partial(patch.setattr, os), at, fail)
            try:
                work(run)
            except CheckpointError as error:
                messages.append(str(error))
        if work in (save_next, save_again):
            assert not [name for name in names(run) if name.startswith(".tmp")]
            assert "step_000000000001" in names(run)
        check_after(run)
        if not failed:
            break
    else:
        pytest.fail("it never ended")
    assert len(messages) >= 3
    assert all("Input/output error" in text for text in messages)


@pytest.mark.integration
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    rng = random.Random(0)
    write(tmp_path, 0)
    value = 0
    for _ in range(10):
        reader, writer = os.pipe()

        def work(value: int = value, writer: int = writer) -> None:
            while True:
                value += 1
                write(tmp_path, value // 2, value)  # every step is saved twice
                os.write(writer, value.to_bytes(8, "little"))
                checkpoint.prune(tmp_path, keep_last=2, keep=set())
                for path in checkpoint.list_complete(tmp_path)[:-1]:
                    checkpoint.drop_arrays(path)

        child = in_child(work)
        os.close(writer)
        first = os.read(reader, 8)
        time.sleep(rng.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as confirmations:
            last = int.from_bytes((first + confirmations.read())[-8:], "little")
        value = value_of(checkpoint.find(tmp_path))
        assert value in (last, last + 1)
    assert value >= 10


def test_an_old_checkpoint_put_aside_is_found_and_returns(tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = write(tmp_path, 2)
    aside = path.with_name(".old-" + path.name)
    path.rename(aside)
    assert checkpoint.find(tmp_path) == aside
    assert checkpoint.find(path) == aside
    assert value_of(aside) == 2
    checkpoint.prune(tmp_path, keep_last=1, keep={aside})
    assert names(tmp_path) == [path.name]


def test_leftover_folders_are_deleted_by_the_next_save(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    for name in (".tmp-step_000000000002-99", f".old-{path.name}"):
        shutil.copytree(path, path.with_name(name))
    assert checkpoint.list_complete(tmp_path) == [path]
    write(tmp_path, 3)
    assert names(tmp_path) == ["step_000000000001", "step_000000000003"]


# ------------------------------------------------------------------------------------------------------- prune and drop


def test_prune_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    paths = [write(tmp_path, steps) for steps in range(6)]
    (paths[2] / "COMPLETE").unlink()
    checkpoint.prune(tmp_path, keep_last=2, keep={paths[1]})
    assert checkpoint.list_complete(tmp_path) == [paths[1], paths[4], paths[5]]
    checkpoint.prune(tmp_path, keep_last=9, keep=set())
    assert len(checkpoint.list_complete(tmp_path)) == 3
    assert [value_of(path) for path in checkpoint.list_complete(tmp_path)] == [1, 4, 5]


def test_prune_before_the_first_save(tmp_path: Path) -> None:
    checkpoint.prune(tmp_path, keep_last=1, keep=set())
    assert list(tmp_path.iterdir()) == []


def test_drop_arrays_leaves_weights_for_evaluation(tmp_path: Path) -> None:
    old, new = write(tmp_path, 1), write(tmp_path, 2)
    for _ in range(2):
        checkpoint.drop_arrays(old)
        assert sorted(file.name for file in old.iterdir()) == [
            "COMPLETE",
            "state.json",
            "tensors.safetensors",
            "weights.safetensors",
        ]
    assert value_of(old, weights_only=True) == 1
    assert checkpoint.load(old, weights_only=True).state == {}
    with pytest.raises(CheckpointError, match=f"weights for evaluation only.*; use {re.escape(str(new))} instead$"):
        checkpoint.load(old)
    flip_last_bit(new / "tensors.safetensors")
    left = f"sha256 differs); the others hold weights for evaluation only: a new run can start from them by net.init_from={old}"
    with pytest.raises(CheckpointError, match=re.escape(left) + "$"):
        checkpoint.load(new)


def test_drop_arrays_of_a_checkpoint_without_any_changes_nothing(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {}, {"n": 1}, {})
    checkpoint.drop_arrays(path)
    assert checkpoint.load(path).state == {"n": 1}
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        checkpoint.drop_arrays(tmp_path)


# ---------------------------------------------------------------------------------------------------------------- nets


def test_weights_of_another_net_are_refused_and_change_nothing() -> None:
    net = nn.Sequential(OrderedDict(torso=nn.Linear(4, 3), head=nn.Linear(3, 2)))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    other = nn.Sequential(OrderedDict(torso=nn.Linear(4, 3), head=nn.Linear(3, 6), more=nn.Linear(1, 1)))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights_into(net, other.state_dict(), "runs/pong")
    assert str(caught.value) == (
        "runs/pong holds the weights of another net: more.weight is unknown to this net; more.bias is unknown to this "
        "net; head.weight has shape [6, 3], this net has [2, 3] and 1 more"
    )
    with pytest.raises(CheckpointError, match=r"torso\.bias is missing$"):
        checkpoint.load_weights_into(net, {name: t for name, t in before.items() if name != "torso.bias"}, "x")
    assert same(dict(net.state_dict()), before)


def test_large_arrays_are_not_copied_or_read_again_while_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = np.zeros((64 << 20,), np.uint8)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("a file was read again"))
    tracemalloc.start()
    checkpoint.save(tmp_path, 1, {}, {"replay": big}, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < big.nbytes / 1.5


def test_save_without_arrays_is_for_evaluation_and_find_can_skip_it(tmp_path: Path) -> None:
    state = {"replay": {"observation": np.ones(3)}}
    light = checkpoint.save(tmp_path, 1, {"w": torch.ones(1)}, state, {"n": 1}, with_arrays=False)
    assert not (light / "arrays").exists()
    assert checkpoint.load(light, weights_only=True).metadata == {"n": 1}
    with pytest.raises(CheckpointError, match="weights for evaluation only"):
        checkpoint.load(light)
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        checkpoint.find(tmp_path, resumable=True)
    full = checkpoint.save(tmp_path, 2, {"w": torch.ones(1)}, state, {})
    newest = checkpoint.save(tmp_path, 3, {"w": torch.ones(1)}, state, {}, with_arrays=False)
    assert checkpoint.find(tmp_path) == newest
    assert checkpoint.find(tmp_path, resumable=True) == full
    assert same(checkpoint.load(full).state, state)
