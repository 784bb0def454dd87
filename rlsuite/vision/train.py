"""A vision run: folder, checkpoints, TensorBoard, resume and learner as an agent's, and data in place of play."""

import json
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlsuite.config import loader
from rlsuite.core import cpu
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.learning.learner import Learner
from rlsuite.nets import pretrained
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runs.metrics import Clock, MetricLog
from rlsuite.runs.progress import Progress, Status
from rlsuite.runtime.run_loop import signals
from rlsuite.vision import data
from rlsuite.vision.config import VisionConfig, check, load_config
from rlsuite.vision.data import Data
from rlsuite.vision.evaluate import MAIN, evaluate
from rlsuite.vision.model import Model
from rlsuite.vision.supervised import DataStore, Supervised, build_model

RESULT = "evaluation.json"


@dataclass
class Outcome:
    run: Path
    steps: int
    wall_seconds: float
    metrics: dict[str, float] | None  # None if the run was interrupted

    def as_dict(self) -> dict[str, Any]:
        facts = {"run": str(self.run), "steps": self.steps, "wall_seconds": round(self.wall_seconds, 2)}
        return {**facts, "eval": None if self.metrics is None else plain(self.metrics)}


def train(config: str | Path | None, overrides: Any = (), run_dir: Path | None = None, resume: Path | None = None) -> Outcome:
    """Trains a shipped config or a YAML file, or goes on with the run `resume`."""
    if resume is not None:
        if run_dir is not None and run_dir != resume:
            raise UsageError("--run-dir and --resume name different folders: a resumed run stays where it is")
        return _run(load_config(run_folder.config_file(resume), overrides), resume, True)
    if config is None:
        raise UsageError("name a config, such as vision/digits, or a run to --resume")
    return _run(load_config(config, overrides), run_dir, False)


def device_of(config: VisionConfig) -> torch.device:
    wanted = config.run.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("run.device=cuda, but no CUDA device is there")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def load_data(config: VisionConfig) -> Data:
    found: Data = data.source(config.data.name).load(config.data, config.seed)
    return found


@dataclass
class _Loop:
    config: VisionConfig
    run_dir: Path
    data: Data
    task: Supervised
    learner: Learner
    store: DataStore
    log: MetricLog
    steps: int = 0
    best: float = -float("inf")
    best_path: Path | None = None
    wall_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    latest: float = float("nan")  # the main metric, of the last evaluation

    @property
    def seconds(self) -> float:
        return self.wall_before + time.monotonic() - self.started

    def clock(self) -> Clock:
        return Clock(self.steps, self.steps, self.learner.steps, round(self.seconds, 3))

    def status(self) -> Status:
        run = self.config.run
        main = {MAIN[self.task.task]: "-" if self.latest != self.latest else f"{self.latest:.3f}"}
        return Status(self.steps, run.steps, None, self.learner.steps, None, None, self.seconds, run.minutes, main)


def _run(config: VisionConfig, run_dir: Path | None, resume: bool) -> Outcome:
    cpu.set_up(config.run.threads or cpu.cores())
    device = device_of(config)
    with signals() as stopped:
        found = load_data(config)
        task = Supervised(config.model, found)
        learner = make_learner(config, task, device, fresh=not resume)
        folder = run_dir or run_folder.named(config)
        with run_folder.lock(folder):
            saved = checkpoint.load(checkpoint.find(folder, resumable=True)) if resume else None
            if saved is None:
                run_folder.create(config, folder)
            with closing(MetricLog(folder, resume_at=saved.agent_steps if saved else None)) as log:
                store = DataStore(found.train, seed=config.seed)
                loop = _Loop(config, folder, found, task, learner, store, log)
                if saved is None:
                    torch.manual_seed(config.seed)  # of dropout and of which proposals are learned from
                else:
                    _restore(loop, saved)
                    run_folder.write_config(config, folder)
                _announce(loop)
                return _to_the_end(loop, stopped)


def make_learner(config: VisionConfig, task: Supervised, device: torch.device, fresh: bool) -> Learner:
    """`fresh`: with the weights that it is to begin with."""

    def adapt(net: nn.Module) -> None:
        if fresh and config.model.weights is not None:
            pretrained.load_backbones(net, config.model.weights)
        if config.model.freeze:
            pretrained.freeze(net)

    decay = config.model.layer_decay
    return Learner(
        task,  # type: ignore[arg-type]  # it never acts
        config.learner,
        seed=config.seed,
        device=device,
        anneal_over=config.learner.learning_rate_anneal_agent_steps or config.run.steps,
        adapt=adapt,
        rates=None if decay == 1 else lambda net: pretrained.layer_groups(net, decay),
    )


def _to_the_end(loop: _Loop, stopped: list[int]) -> Outcome:
    progress = Progress()
    try:
        interrupted = _train(loop, progress, stopped)
    finally:
        progress.close(loop.status())
    path = _save(loop, full=True)
    if interrupted:
        return Outcome(loop.run_dir, loop.steps, loop.seconds, None)
    result = _evaluate(loop, final=True)
    write_result(path, result)
    return Outcome(loop.run_dir, loop.steps, loop.seconds, result)


def write_result(path: Path, result: dict[str, float]) -> None:
    """Beside the checkpoint, which itself never changes."""
    path.with_name(f"{path.name}.{RESULT}").write_text(json.dumps(plain(result), indent=1))


def plain(result: dict[str, float]) -> dict[str, float | None]:
    """For JSON, which knows no nan: a metric that these pictures do not define, such as mAP without objects, is null."""
    return {name: None if value != value else value for name, value in result.items()}


def _train(loop: _Loop, progress: Progress, stopped: list[int]) -> bool:
    """True if a signal came."""
    config, run, batch = loop.config, loop.config.run, loop.config.learner.batch_size
    next_log = time.monotonic()
    next_checkpoint = next_log + run.checkpoint_minutes * 60
    every, logged = config.eval.every_steps, (loop.steps, time.monotonic())
    loop.learner.net.train()
    while loop.steps < run.steps and (run.minutes is None or loop.seconds < run.minutes * 60):
        if stopped:
            return True
        left = run.steps - loop.steps
        count = left if left <= batch + 1 and batch > 1 else batch  # one alone would have no statistics of a batch
        update = loop.learner.step(loop.learner.stage(loop.store.sample(count)), loop.steps, want_priority=False)
        before, loop.steps = loop.steps, loop.steps + count
        now = time.monotonic()
        if now >= next_log:
            values = {name: float(value) for name, value in update.metrics.items()}
            loop.learner.check(values)
            values["charts/SPS"] = (loop.steps - logged[0]) / max(now - logged[1], 1e-9)
            values["charts/learning_rate"] = loop.learner.learning_rate(loop.steps)
            logged, next_log = (loop.steps, now), now + run.log_seconds
            loop.log.scalars(loop.clock(), values)
        if every and loop.steps // every > before // every and loop.steps < run.steps:
            _evaluate(loop, final=False)
        if time.monotonic() >= next_checkpoint:
            _save(loop, full=True)
            next_checkpoint = time.monotonic() + run.checkpoint_minutes * 60
        progress.update(loop.status())
    return False


def _evaluate(loop: _Loop, final: bool) -> dict[str, float]:
    config, learner = loop.config, loop.learner
    limit = None if final else config.eval.pictures
    bf16 = config.learner.precision == "bf16"
    result = evaluate(learner.net, loop.data, loop.task.task, learner.device, config.eval.batch_size, bf16, limit)
    loop.log.scalars(loop.clock(), {f"eval/{name}": value for name, value in result.items()})
    loop.latest = result[MAIN[loop.task.task]]
    if not final and loop.latest > loop.best:
        loop.best = loop.latest
        loop.best_path = _save(loop, full=False)
        write_result(loop.best_path, result)
    return result


def _save(loop: _Loop, full: bool) -> Path:
    """`full`: to resume from."""
    loop.learner.check_weights()
    state: dict[str, Any] = {
        "loop": {"seconds": loop.seconds, "best": loop.best, "best_path": loop.best_path.name if loop.best_path else None}
    }
    if full:
        state |= {
            "learner": loop.learner.state_dict(),
            "store": loop.store.state_dict(),
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []},
        }
    facts = {
        "config": loader.as_mapping(loop.config),
        "vision": {"classes": list(loop.data.classes), "shape": list(loop.data.shape), "task": loop.task.task},
        "versions": run_folder.versions(),
    }
    path = checkpoint.save(loop.run_dir, loop.steps, loop.learner.weights().tensors, state, facts, with_arrays=full)
    if full:
        kept = {path, *({loop.best_path} if loop.best_path else ())}
        try:
            checkpoint.prune(loop.run_dir, loop.config.run.keep_checkpoints, kept)
        except CheckpointError as error:  # an old one is damaged: the new one is written, so training goes on
            print(f"rlsuite: {error}", file=sys.stderr, flush=True)
    loop.log.flush()
    return path


def _restore(loop: _Loop, saved: checkpoint.Checkpoint) -> None:
    if saved.agent_steps > loop.config.run.steps:
        raise UsageError(
            f"run.steps = {loop.config.run.steps}: {loop.run_dir} has come to {saved.agent_steps} already; ask for more"
        )
    try:
        loop.learner.load(saved.weights, saved.state["learner"], str(saved.path))
        loop.store.load_state_dict(saved.state["store"])
        inner, random = saved.state["loop"], saved.state["random"]
        loop.steps, loop.wall_before, loop.best = saved.agent_steps, inner["seconds"], inner["best"]
        loop.best_path = loop.run_dir / "checkpoints" / inner["best_path"] if inner["best_path"] else None
        torch.set_rng_state(random["cpu"])
        for index, state in enumerate(random["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, index)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{saved.path} does not fit this config: {reason}; change only run.* and eval.*") from error
    checkpoint.forget_after(loop.run_dir, saved.agent_steps)


def _announce(loop: _Loop) -> None:
    config = loop.config
    parts = [config.model.backbone, *([config.model.neck] if config.model.neck != "none" else []), config.model.head]
    parameters = sum(p.numel() for p in loop.learner.net.parameters())
    print(
        f"{config.name}: {' + '.join(parts)} on {config.data.name}, {len(loop.data.train):,} + {len(loop.data.test):,} pictures, "
        f"{len(loop.data.classes)} classes, seed {config.seed}, {loop.learner.device.type}, {torch.get_num_threads()} threads, "
        f"{parameters:,} parameters\nrun folder {loop.run_dir}" + (f", resumed at picture {loop.steps:,}" if loop.steps else ""),
        file=sys.stderr,
        flush=True,
    )


class SavedModel:
    """A model as a checkpoint of a vision run holds it."""

    def __init__(self, path: Path):
        """`path`: a run or a checkpoint folder. UsageError or CheckpointError if it is none, is damaged or an agent's."""
        self.path = checkpoint.find(path.resolve())
        saved = checkpoint.load(self.path, weights_only=True)
        facts: Any = saved.metadata
        if "vision" not in facts:
            raise UsageError(f"{self.path} is of an agent, not of a vision model: rlsuite evaluate {path}")
        self.steps = saved.agent_steps
        self.config = check(facts["config"])
        self.classes: list[str] = facts["vision"]["classes"]
        self.shape: tuple[int, ...] = tuple(facts["vision"]["shape"])
        self.task: str = facts["vision"]["task"]
        self.device = device_of(self.config)
        self.bf16 = self.config.learner.precision == "bf16"
        model: Model = build_model(self.config.model, len(self.classes), self.shape[0])
        checkpoint.load_weights_into(model, saved.weights, str(self.path))
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
