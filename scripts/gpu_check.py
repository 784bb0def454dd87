"""Tests and measures rlsuite on a GPU, each part in a process of its own; what fails does not stop the rest.

After every part `results.json` in the output folder is written anew: the machine, and of each part its command, exit code, seconds,
figures and the end of what it printed. Parts that no longer fit into the time are left out and named.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

TAIL = 4000  # characters of a part's output that are kept


class Part(NamedTuple):
    """A command of its own, and the seconds that it may take."""

    name: str
    command: list[str]
    seconds: float
    environment: dict[str, str] = {}  # noqa: RUF012  a default that nobody changes


def parts(cpu: bool, minutes: float) -> list[Part]:
    """What is run, in order; with `cpu` the same on a CPU, with sizes that only prove that it runs."""
    python, device = sys.executable, "cpu" if cpu else "cuda"
    suite = [python, "-m", "rlsuite"]
    quick = ["--quick", "--repeats", "1"] if cpu else ["--repeats", "3"]
    seconds = 5 if cpu else 60 * minutes / 12  # of one training
    limit = 60 * minutes / 4

    def train(name: str, config: str, *overrides: str) -> Part:
        settings = [f"run.device={device}", f"run.minutes={seconds / 60:.3g}", "eval.episodes=2" if cpu else "eval.episodes=10"]
        run = ["--run-dir", f"runs/{name}"]
        return Part(f"train/{name}", [*suite, "train", config, *settings, *overrides, *run], seconds + limit)

    modes: dict[str, list[str]] = {"eager": []}
    if not cpu:
        modes |= {"compiled": ["learner.compile=true"], "graphs": ["learner.cuda_graphs=true"]}
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/learning/test_cuda.py"]
    found = [Part("doctor", [*suite, "doctor"], 120), Part("tests", tests, limit, {"RLSUITE_TEST_DEVICE": device})]
    found += [
        Part(f"bench/{name}", [*suite, "bench", name, "--json", *quick], limit)
        for name in ("learner", "sequences", "ppo", "inference", "collect", "selfplay")
    ]
    if not cpu:  # where a local run's collector acts faster
        found.append(Part("bench/collect-cpu", [*suite, "bench", "collect", "--json", *quick], limit, {"CUDA_VISIBLE_DEVICES": ""}))
    found += [train(f"pong-{mode}", "atari/pong", *switches) for mode, switches in modes.items()]
    found += [train(f"recall-r2d2-{mode}", "classic/recall_r2d2", *switches) for mode, switches in modes.items()]
    found += [
        train("ppo", "atari/ppo"),
        train("connect-four", "boards/connect_four"),
        train("connect-four-128x6", "boards/connect_four", "net.torso=tower(width=128,depth=6)"),
    ]
    return found


def machine() -> dict[str, Any]:
    """The machine, as far as it can be told without rlsuite."""
    facts: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    try:
        import torch

        facts |= {"torch": torch.__version__, "cuda": torch.version.cuda}
        if torch.cuda.is_available():
            facts |= {"card": torch.cuda.get_device_name(), "memory": torch.cuda.get_device_properties(0).total_memory}
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        facts["driver"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (ImportError, OSError, subprocess.CalledProcessError) as error:
        facts["unknown"] = str(error)
    return facts


def run(part: Part, folder: Path, left: float) -> dict[str, Any]:
    """Runs a part in `folder` for at most `left` seconds: its command, exit code, seconds, figures and last output."""
    log, root = folder / f"{part.name.replace('/', '-')}.log", Path(__file__).resolve().parents[1]
    command = [str(root / word) if word.startswith("tests/") else word for word in part.command]
    began = time.monotonic()
    with log.open("w") as out:
        environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{root}", **part.environment}
        try:
            code: int | None = subprocess.run(
                command, stdout=out, stderr=out, cwd=folder, env=environment, timeout=min(part.seconds, left), check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    text = log.read_text(errors="replace")
    result = {"name": part.name, "command": " ".join(part.command), "code": code, "seconds": round(time.monotonic() - began, 1)}
    return result | {"figures": figures(part, text, folder) if code == 0 else None, "output": text[-TAIL:]}


def figures(part: Part, text: str, folder: Path) -> Any:
    """What a bench measured, or the rates and the return at the end of a training; None for other parts."""
    if part.name.startswith("bench/") and "{" in text:
        try:
            rows = json.JSONDecoder().raw_decode(text[text.index("\n{") + 1 if "\n{" in text else text.index("{") :])[0]["results"]
        except (ValueError, KeyError):
            return None
        return {row["name"]: {key: row[key] for key in ("ours", "reference", "unit", "ratio", "target", "met")} for row in rows}
    log = folder / "runs" / part.name.removeprefix("train/") / "metrics.jsonl"
    if not log.is_file():
        return None
    last: dict[str, Any] = {}
    for line in log.read_text().splitlines():
        last |= json.loads(line)
    wanted = ("agent_steps", "learner_steps", "wall_seconds", "charts/SPS", "charts/learner_SPS", "eval/episodic_return")
    return {key: last[key] for key in wanted if key in last}


def main() -> int:
    """Runs all parts; exit code 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25, help="of all parts together (default: 25)")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of results, logs and runs (default: gpu-check)")
    parser.add_argument("--cpu", action="store_true", help="the same steps on a CPU in a few minutes, to prove this script")
    asked = parser.parse_args()
    if asked.out.exists() and any(asked.out.iterdir()):
        parser.error(f"--out {asked.out} holds something already: name a new folder")
    asked.out.mkdir(parents=True, exist_ok=True)
    end, results = time.monotonic() + 60 * asked.minutes, []
    report: dict[str, Any] = {"machine": machine(), "parts": results, "left out": []}
    for part in parts(asked.cpu, asked.minutes):
        left = end - time.monotonic()
        if left < 20:
            report["left out"].append(part.name)
            print(f"{part.name}: left out, the time is over", flush=True)
        else:
            results.append(run(part, asked.out, left))
            one = results[-1]
            print(f"{part.name}: exit code {one['code']}, {one['seconds']} s {json.dumps(one['figures'] or '')}"[:600], flush=True)
        (asked.out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    return int(any(one["code"] != 0 for one in results))


if __name__ == "__main__":
    sys.exit(main())
