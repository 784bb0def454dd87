"""Reads what W&B keeps offline."""

import json
import struct
from pathlib import Path
from typing import Any


def records(path: Path) -> list[Any]:
    """The records of a .wandb file: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, found, part, at = path.read_bytes(), [], b"", 7
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left  # the rest of a block is empty
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(wandb_internal_pb2.Record.FromString(part))
            part = b""
    return found


def kept(run: Path) -> tuple[set[str], list[tuple[int, dict[str, Any]]]]:
    """The ids of all sessions, and their history: (W&B's step, values)."""
    import wandb

    wandb.teardown()  # as at the end of a program: its service writes what it has
    ids, history = set(), []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for record in records(path):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                history.append((row.pop("_step"), row))
    return ids, history
