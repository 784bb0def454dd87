"""A ring whose steps are kept in files: the window of games that a board agent learns from, which may be larger than memory.

Steps are appended to a block in memory. A full block becomes a file, which never changes and is mapped into memory from then on.
Files that the window has passed are removed once no checkpoint needs them. So a killed run loses nothing: after a resume, the same
games are played again and replace the files written after the checkpoint. A file that cannot be read costs only its own steps. A
folder belongs to one run, whose random id is in every file.

Shapes: S = `BLOCK` steps of a file, K steps of an unroll, B samples, N steps of the window.
"""

import os
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import UsageError
from rlsuite.core.files import replacing, writing
from rlsuite.core.types import EnvSpec, Step, Trajectory, Unroll
from rlsuite.replay.layout import Layout
from rlsuite.replay.ring import Ring

BLOCK = 4096
_HEADER = struct.Struct("<16s16sQII")  # magic, owner, number of the block, bytes of a step, CRC-32 of the steps
_MAGIC = b"rlsuite window 1"
Records = NDArray[Any]  # [S] structured: the leaves of a step


class Window(Ring):
    """A ring of one environment, whose sequences are single steps, in the files of a folder."""

    def __init__(self, spec: EnvSpec, slots: int, layout: Layout, folder: Path):
        """`slots`: N. `folder` is made with the first block; `write` raises UsageError if it holds the games of another run."""
        assert layout.length == 1, "only single positions are kept in files"
        super().__init__(spec, 1, 0, layout)
        self.slots, self.folder = slots, folder
        leaves = [("observation", spec.observation_dtype, spec.observation_shape), ("first", "u1", ()), ("action", "i8", ())]
        self.dtype = np.dtype(leaves + [(extra.name, extra.dtype, extra.shape) for extra in layout.extras])
        self.block: Records = np.zeros(BLOCK, self.dtype)  # the newest steps
        self.files: dict[int, Records] = {}  # the full blocks, by number
        self.kept_from = 0  # the first block that the last checkpoint needs
        self.owner = os.urandom(16)  # distinguishes this run's files from those of other runs

    @staticmethod
    def bytes_per_step(spec: EnvSpec, layout: Layout) -> int:
        """The bytes that a step takes on disk."""
        return Window(spec, 1, layout, Path()).dtype.itemsize

    def write(self, unroll: Unroll) -> None:
        """Appends an unroll, leaves [K,1,...]."""
        if self.head == 0 and _numbers(self.folder):
            raise UsageError(f"replay.window = {self.folder} holds the games of another run: resume that run, or name a new folder")
        steps = unroll.steps
        new: Records = np.zeros(len(steps.reward), self.dtype)
        new["observation"], new["first"], new["action"] = steps.observation[:, 0], steps.first[:, 0], steps.action[:, 0]
        for extra in self.layout.extras:
            new[extra.name] = steps.extras[extra.name][:, 0]
        while len(new):
            at = self.head % BLOCK
            part = new[: BLOCK - at]
            self.block[at : at + len(part)] = part
            self.head += len(part)
            new = new[len(part) :]
            if self.head % BLOCK == 0:
                self._finish(self.head // BLOCK - 1)

    def _finish(self, number: int) -> None:
        """Writes the full block to a file. UsageError if another run has written to the folder."""
        path, content = _path(self.folder, number), self.block.tobytes()
        if _owner(path) not in (None, self.owner):
            raise UsageError(f"replay.window = {self.folder} is another run's by now: name a folder for each run")
        with replacing(path, ", or choose another replay.window") as beside, open(beside, "wb") as file:
            file.write(_HEADER.pack(_MAGIC, self.owner, number, self.dtype.itemsize, zlib.crc32(content)))
            file.write(content)
        self.files[number] = self._mapped(path)
        for passed in [one for one in self.files if (one + 1) * BLOCK <= self.head - self.slots]:
            del self.files[passed]  # the file stays until the next checkpoint

    def _mapped(self, path: Path) -> Records:
        return np.memmap(path, self.dtype, "r", offset=_HEADER.size, shape=BLOCK)

    def starts(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each step is still in the window, and so can be sampled: bool [K,1]."""
        return np.asarray(times >= self.oldest)[:, None]

    def end_streams(self) -> None:
        """Does nothing, because no sequence is longer than one step."""

    def read(self, env_index: NDArray[np.int64], time: NDArray[np.int64]) -> Trajectory:
        """The steps at `time` [B]: leaves [1,B,...]."""
        found: Records = np.empty(len(time), self.dtype)
        order = np.argsort(time, kind="stable")
        blocks = time[order] // BLOCK
        for begin, end in pairwise([0, *(np.flatnonzero(np.diff(blocks)) + 1), len(time)]):
            number, rows = int(blocks[begin]), order[begin:end]
            block = self.block if number == self.head // BLOCK else self.files[number]
            found[rows] = block[time[rows] % BLOCK]
        false = np.zeros((1, len(time)), bool)
        return Trajectory(
            Step(
                observation=np.ascontiguousarray(found["observation"])[None],
                reward=np.zeros(false.shape, np.float32),
                first=found["first"].astype(bool)[None],
                last=false,
                terminal=false,
                action=found["action"][None].copy(),
                extras={extra.name: np.ascontiguousarray(found[extra.name])[None] for extra in self.layout.extras},
            ),
            state=(),
        )

    def state_dict(self) -> dict[str, Any]:
        """The unfinished block and the counters; all else is in files. Removes files that not even the last checkpoint needs."""
        for number in _numbers(self.folder):
            if number < self.kept_from:
                with writing(_path(self.folder, number), action="delete"):
                    _path(self.folder, number).unlink(missing_ok=True)
        self.kept_from = max(self.head - self.slots, 0) // BLOCK
        block = self.block[: self.head % BLOCK]
        return {
            "window": np.frombuffer(block.tobytes(), np.uint8),
            "owner": np.frombuffer(self.owner, np.uint8),
            "head": self.head,
            "slots": self.slots,
            "layout": self.layout.facts(),
            "fields": str(self.dtype),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state` and opens the files. ValueError if it has another layout or size.

        `lost` then holds the times of steps in files that are missing or damaged.
        """
        if "window" not in state:
            raise ValueError("the saved replay was in memory, this one is in the files of replay.window")
        if state["slots"] != self.slots or state["fields"] != str(self.dtype):
            raise ValueError(
                f"the saved replay has {state['slots']} steps of {state['fields']}, this one has {self.slots} of {self.dtype}"
            )
        self.layout.check(state["layout"])
        self.head, self.owner = state["head"], state["owner"].tobytes()
        self.block[: self.head % BLOCK] = np.frombuffer(state["window"].tobytes(), self.dtype)
        whole, self.kept_from = self.head // BLOCK, max(self.head - self.slots, 0) // BLOCK
        lost = []
        for number in range(self.kept_from, whole):
            if self._is_whole(number):
                self.files[number] = self._mapped(_path(self.folder, number))
            else:
                lost.append(np.arange(number * BLOCK, (number + 1) * BLOCK))
        self.lost = np.concatenate(lost) if lost else self.lost[:0]
        self.lost = self.lost[self.lost >= self.oldest]

    def _is_whole(self, number: int) -> bool:
        """Whether a block's file exists and holds exactly what was written."""
        try:
            content = _path(self.folder, number).read_bytes()
            magic, owner, own, size, crc = _HEADER.unpack_from(content)
        except (OSError, struct.error):
            return False
        steps = memoryview(content)[_HEADER.size :]
        fits = (magic, owner, own, size, len(steps)) == (_MAGIC, self.owner, number, self.dtype.itemsize, BLOCK * size)
        return fits and zlib.crc32(steps) == crc


def _path(folder: Path, number: int) -> Path:
    return folder / f"games_{number:09d}.bin"


def _owner(path: Path) -> bytes | None:
    """The id of the run that wrote a file; None if the file is missing or cannot be read."""
    try:
        with open(path, "rb") as file:
            found: bytes = _HEADER.unpack(file.read(_HEADER.size))[1]
            return found
    except (OSError, struct.error):
        return None


def _numbers(folder: Path) -> list[int]:
    """The numbers of the blocks in a folder."""
    return sorted(int(path.stem.removeprefix("games_")) for path in folder.glob("games_*.bin") if path.stem[6:].isdigit())
