"""Training of vision models.

    outcome = train("vision/digits", {"run.steps": 20_000})
    model = SavedModel(outcome.run)

Data, model and learner make the same kind of run as an agent's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.config import loader
from rlsuite.config.schema import TrainingConfig
from rlsuite.core import cpu
from rlsuite.core.console import command
from rlsuite.core.errors import UsageError
from rlsuite.factories import device_of
from rlsuite.learning.learner import DeviceBatch, Learner
from rlsuite.learning.recolour import check_planes
from rlsuite.nets import pretrained
from rlsuite.nets.precision import in_bf16
from rlsuite.runs import checkpoint, run_folder, trust
from rlsuite.runs.callbacks import Callback, Callbacks, load_callbacks
from rlsuite.runs.metrics import write_evaluation
from rlsuite.runs.progress import Progress, Status, how_far
from rlsuite.runs.trackers.opening import check_trackers
from rlsuite.runtime.session import Report, Session, run, take_turns
from rlsuite.runtime.signals import Stop, signals
from rlsuite.vision import data
from rlsuite.vision.config import VisionConfig, check, load_config
from rlsuite.vision.data import Data
from rlsuite.vision.data.leave_out import left_out
from rlsuite.vision.evaluate import evaluate_until
from rlsuite.vision.generation.base import Measured
from rlsuite.vision.model import Model
from rlsuite.vision.sample import overview
from rlsuite.vision.supervised import DataStore, Supervised, build_model


@dataclass
class Outcome:
    """The result of a vision run, as `train` returns it."""

    run: Path
    steps: int
    wall_seconds: float
    metrics: dict[str, float] | None  # of the final evaluation; None if the run was interrupted

    def as_dict(self) -> dict[str, Any]:
        """The result as a dict that can be written as JSON, as `rlsuite vision train --json` prints it."""
        facts = {"run": str(self.run), "steps": self.steps, "wall_seconds": round(self.wall_seconds, 2)}
        return {**facts, "eval": None if self.metrics is None else plain(self.metrics)}


def train(
    config: str | Path | None,
    overrides: Any = (),
    run_dir: Path | None = None,
    resume: Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Trains a shipped config or a YAML file, or continues the run `resume`. Ctrl-C saves a checkpoint and returns.

    `callbacks`: see `rlsuite.train`.
    """
    resolved, folder = run_folder.requested(load_config, config, overrides, run_dir, resume, "vision/digits")
    check_trackers(resolved.run.trackers)
    loaded = load_callbacks(resolved.run.callbacks, callbacks)
    cpu.set_up(resolved.run.threads)
    with signals() as stopped:
        training = Training(resolved, folder, fresh=resume is None, callbacks=loaded)
        metrics = run(training, training.train, resume is not None, stopped)
        return Outcome(training.run_dir, training.agent_steps, training.seconds, metrics)


def load_data(config: VisionConfig) -> Data:
    """The data of the source that the config names."""
    found: Data = data.source(config.data.name).load(config.data, config.seed)
    return found


def make_learner(config: VisionConfig, task: Supervised, device: torch.device, fresh: bool) -> Learner:
    """The learner of a vision run. `fresh`: starts from the weights that the config names, if any; a resumed run has its own."""

    def adapt(net: nn.Module) -> None:
        if fresh and config.model.weights is not None:
            pretrained.load_backbones(net, config.model.weights)
        if config.model.freeze:
            pretrained.freeze(net)

    check_planes(config.learner.augment, task.shape[0])
    decay = config.model.layer_decay
    return Learner(
        task,
        config.learner,
        seed=config.seed,
        device=device,
        anneal_over=config.learner.learning_rate_anneal_agent_steps or config.run.steps,
        adapt=adapt,
        rates=None if decay == 1 else lambda net: pretrained.layer_groups(net, decay),
    )


class Training(Session[dict[str, float]]):
    """The session of a vision run. One picture is one step."""

    steps_key = "run.steps"
    command = ("rlsuite", "vision")
    config: VisionConfig
    learner: Learner

    def __init__(self, config: VisionConfig, run_dir: Path | None, fresh: bool, callbacks: Callbacks | None = None):
        """`run_dir`: None makes a folder. `fresh`: see `make_learner`. UsageError if data and model do not fit each other."""
        device = device_of(config)
        self.config, self.data = config, load_data(config)
        self.task = Supervised(config.model, self.data)
        self.left_out = left_out(config.data, list(self.data.classes))
        if self.left_out is not None and self.task.needs_every_class:
            name = self.data.classes[self.left_out]
            raise UsageError(f"data.leave_out = {name}: model.head={config.model.head} needs pictures of every class")
        learner = make_learner(config, self.task, device, fresh)
        assert isinstance(learner.net, Model)
        learner.net.head.check_labels(self.data.train)
        super().__init__(run_dir or run_folder.new_path(config), learner, callbacks=callbacks)
        self.store = DataStore(self.data.train, seed=config.seed)
        self.batch: DeviceBatch | None = None  # collected, not yet learned from
        self.latest = float("nan")  # main metric of the last evaluation
        torch.manual_seed(config.seed)  # dropout, and the choice of proposals

    @property
    def settings(self) -> TrainingConfig:
        return self.config.run

    @property
    def total_agent_steps(self) -> int:
        return self.config.run.steps

    @property
    def evaluate_every(self) -> int | None:
        return self.config.eval.every_steps

    def train(self, progress: Progress, stopped: Stop) -> bool:
        """Trains until the steps or the minutes are used up; True if a signal came first."""
        self.learner.online.net.train()
        return take_turns(self, self._collect, self._learn, progress, stopped)

    def _collect(self) -> None:
        size = self.config.learner.batch_size
        left = self.total_agent_steps - self.collected
        # A single picture would have no batch statistics, so the last batch may be one larger.
        self.moved = left if left <= size + 1 and size > 1 else size
        self.batch = self.learner.stage(self.store.sample(self.moved))
        self.collected += self.moved

    def _learn(self) -> dict[str, Tensor] | None:
        if self.batch is None:
            return None
        update = self.learner.step(self.batch, self.collected - self.moved, want_priority=False)
        self.batch = None
        return update.metrics

    def measure(self, final: bool, stopped: Stop) -> dict[str, float] | None:
        """The metrics on the test pictures; the final evaluation uses all of them."""
        config, learner = self.config, self.learner

        def stop_and_show(done: int, of: int) -> bool:
            self.show_evaluation(how_far(done, of, "pictures"))
            return bool(stopped)

        found = evaluate_until(
            stop_and_show,
            learner.net,
            self.data,
            self.task.task,
            learner.device,
            config.eval.batch_size,
            learner.bf16,
            limit=None if final else config.eval.pictures,
        )
        if found is not None:
            self.latest = found[self.task.main]
            if isinstance(learner.net.head, Measured):
                made = overview(learner.net, self.data, learner.bf16)  # type: ignore[arg-type]
                self.log.picture(self.clock(), "eval/pictures", made)
        return found

    def check_resume(self, saved: checkpoint.Checkpoint) -> None:
        facts: Any = saved.metadata
        check_names(facts["vision"], self.data, str(saved.path))

    def report(self, result: dict[str, float], final: bool) -> Report:
        return Report(result[self.task.main], {f"eval/{name}": value for name, value in result.items()}, plain(result))

    def status(self, more: dict[str, str] | None = None) -> Status:
        main = {self.task.main: "-" if self.latest != self.latest else f"{self.latest:.3f}"}
        return super().status(main | (more or {}))

    def describe(self) -> str:
        config = self.config
        parts = [config.model.backbone, *([config.model.neck] if config.model.neck != "none" else []), config.model.head]
        parameters = sum(p.numel() for p in self.learner.net.parameters())
        missing = "" if self.left_out is None else f" of which {self.data.classes[self.left_out]!r} is left out of training"
        return (
            f"{config.name}: {' + '.join(parts)} on {config.data.name}, "
            f"{len(self.data.train):,} + {len(self.data.test):,} pictures, "
            f"{len(self.data.classes)} classes{missing}, seed {config.seed}, "
            f"{self.learner.device.type}, {torch.get_num_threads()} threads, "
            f"{parameters:,} parameters"
        )

    def metadata(self) -> dict[str, Any]:
        return {
            "config": loader.as_mapping(self.config),
            "vision": {
                "classes": list(self.data.classes),
                "letters": list(self.data.letters),
                "shape": list(self.data.shape),
                "task": self.task.task,
            },
            "versions": run_folder.versions(),
        }

    def state_dict(self) -> dict[str, Any]:
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}
        return super().state_dict() | {"store": self.store.state_dict(), "random": random}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.store.load_state_dict(state["store"])
        torch.set_rng_state(state["random"]["cpu"])
        for index, generator in enumerate(state["random"]["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(generator, index)


def check_names(facts: dict[str, Any], data: Data, where: str) -> None:
    """UsageError if the data's classes or letters are not those of a saved model, so that its outputs would mean others.

    `facts`: the metadata of the checkpoint `where`.
    """
    for kind, names in (("classes", data.classes), ("letters", data.letters)):
        known = facts.get(kind, [])
        if list(names) == known:
            continue
        new, gone = ([name for name in a if name not in b] for a, b in ((names, known), (known, names)))
        differ = [f"{word} {', '.join(map(repr, some[:5]))}" for word, some in (("new:", new), ("gone:", gone)) if some]
        change = "; ".join(differ) or "their order differs"
        raise UsageError(f"{where} learned {len(known)} {kind}, the data has {len(names)} ({change}): train a new run on it")


def write_result(path: Path, result: dict[str, float]) -> None:
    """Writes the metrics of a checkpoint beside it."""
    write_evaluation(path, plain(result))


def plain(result: dict[str, float]) -> dict[str, float | None]:
    """The metrics for JSON, which has no nan: undefined ones on these pictures, such as mAP without objects, become null."""
    return {name: None if value != value else value for name, value in result.items()}


class SavedModel:
    """A model loaded from a checkpoint of a vision run, ready to predict."""

    def __init__(self, path: str | Path):
        """`path`: a run or a checkpoint folder. UsageError or CheckpointError if it is neither, is damaged or of an agent."""
        path = Path(path)
        self.path = checkpoint.find(path.resolve())
        saved = checkpoint.load(self.path, weights_only=True)
        facts: Any = saved.metadata
        if "vision" not in facts:
            raise UsageError(f"{self.path} is of an agent, not of a vision model: {command('rlsuite', 'evaluate', path)}")
        trust.admit(facts["config"], path, saved.own)
        self.steps = saved.agent_steps
        self.config = check(facts["config"])
        self.facts: dict[str, Any] = facts["vision"]
        self.classes: list[str] = self.facts["classes"]
        self.letters: list[str] = self.facts.get("letters", [])
        self.shape: tuple[int, int, int] = tuple(self.facts["shape"])
        self.task: str = self.facts["task"]
        self.device = device_of(self.config)
        self.bf16 = in_bf16(self.config.learner.precision, self.device)
        model: Model = build_model(self.config.model, len(self.classes), self.shape)
        checkpoint.load_weights_into(model, saved.weights, str(self.path))
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def data(self) -> Data:
        """The data of its run. UsageError if that has other classes by now."""
        found = load_data(self.config)
        check_names(self.facts, found, str(self.path))
        return found
