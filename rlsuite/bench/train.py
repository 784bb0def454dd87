"""train: DQN training on Pong, collecting and updating together, once learning has begun."""

import importlib
import io
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlsuite.bench.acting import sb3_env
from rlsuite.bench.measure import NOT_INSTALLED, PLAIN, BenchSettings, Row, Target, Work, alternate, config, lacking, named, say
from rlsuite.config.loader import resolve
from rlsuite.config.schema import Config
from rlsuite.factories import build, device_of
from rlsuite.runs.metrics import MetricLog
from rlsuite.runs.progress import Progress
from rlsuite.runtime.local import train_loop
from rlsuite.runtime.run_loop import Loop
from rlsuite.runtime.signals import Stop

SAMPLES_PER_INSERT = 8  # a batch of 32 every 4 steps
BATCH, EVERY = 32, 4
BUFFER = 10_000
EPSILON, LEARNING_RATE, TARGET_PERIOD = 0.05, 1e-4, 10_000  # the last in agent steps
QUICK_START = "atari/pong"
TARGETS = {"bf16": Target("ratio", ">=", 2.0), "shipped": Target("ratio", ">=", 4.0)}


def bench_train(settings: BenchSettings) -> list[Row]:
    """Agent steps per second of DQN in four configs of ours, against Stable-Baselines3."""
    shipped = as_shipped(settings)
    num_envs, batch = shipped.env.num_envs, shipped.learner.batch_size
    setups = {
        "bf16": setup_of(settings, 1, EVERY, BATCH, "bf16"),
        "fp32": setup_of(settings, 1, EVERY, BATCH, "fp32"),
        "wide": setup_of(settings, num_envs, shipped.run.collect_agent_steps, batch, "bf16"),
        "shipped": shipped,
    }
    with ExitStack() as stack:
        contenders: dict[str, Work] = {}
        for name, setup in setups.items():
            say(f"train: collecting the first {settings.train_start:,} steps, {name}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = Ours(setup, folder)
            stack.callback(ours.close)
            ours.advance(settings.train_start)
            contenders[name] = rounds_of(ours, setup.env.num_envs * setup.run.collect_agent_steps)
        label = f"Stable-Baselines3's DQN ({NOT_INSTALLED})"
        if not lacking(["stable_baselines3", "cv2"]):
            say(f"train: collecting the first {settings.train_start:,} steps, Stable-Baselines3")
            contenders["reference"] = _sb3(settings, str(device_of(setups["bf16"])))
            label = f"{named('stable_baselines3')}'s DQN (CnnPolicy, fp32)"
        rates = alternate("train", contenders, settings)
    theirs = f"1 env, batch {BATCH} every {EVERY} steps, Nature net of 512 units, Adam, buffer {BUFFER:,}, ε {EPSILON}"
    same = f"channels_last, against {label}, both with {theirs}; once learning has begun"
    what = {
        "bf16": f"Pong, local runtime, bf16, {same}",
        "fp32": f"Pong, local runtime, fp32, {same}",
        "wide": (
            f"Pong, local runtime, bf16, channels_last, the same net and samples per insert ({SAMPLES_PER_INSERT}), but "
            f"{num_envs} environments and a batch of {batch}, against {label} with {theirs}; once learning has begun"
        ),
        "shipped": (
            f"our config {QUICK_START} as shipped ({shipped.net.torso} torso, smaller planes, {num_envs} environments, "
            f"batch {batch}, {shipped.replay.samples_per_insert:g} samples per insert), against {label} with {theirs}, which are "
            f"{SAMPLES_PER_INSERT} samples per insert; once learning has begun"
        ),
    }
    labels = {"bf16": "train/same", "fp32": "train/same fp32", "wide": "train/environments", "shipped": f"train/{QUICK_START}"}
    reference = rates.get("reference")
    return [Row(labels[key], what[key], "agent steps/s", rates[key], reference, TARGETS.get(key)) for key in setups]


def as_shipped(settings: BenchSettings) -> Config:
    """The quick start's config without evaluations and checkpoints, learning from the same step on as the other contenders."""
    more: dict[str, Any] = {
        "replay.min_agent_steps": settings.train_start,
        "eval.every_agent_steps": None,
        "eval.stop_at_return": None,
        "run.checkpoint_minutes": 1e9,
        "run.device": settings.device,
        "run.threads": settings.threads,
    }
    return resolve(QUICK_START, more)


def setup_of(settings: BenchSettings, num_envs: int, unroll: int, batch: int, precision: str) -> Config:
    """The config of plain DQN with the settings of Stable-Baselines3 and of its `AtariWrapper`."""
    return config(
        settings,
        {**PLAIN, "epsilon_start": EPSILON, "epsilon_end": EPSILON},
        env={"num_envs": num_envs, "life_loss": True, "fire_reset": True},
        replay={
            "capacity_agent_steps": BUFFER,
            "min_agent_steps": settings.train_start,
            "samples_per_insert": SAMPLES_PER_INSERT,
        },
        learner={
            "batch_size": batch,
            "learning_rate": LEARNING_RATE,
            "optimizer_epsilon": 1e-8,
            "target_period_learner_steps": TARGET_PERIOD * SAMPLES_PER_INSERT // batch,
            "precision": precision,
        },
        run={"collect_agent_steps": unroll, "checkpoint_minutes": 1e9},
    )


class Ours:
    """A local run that can be trained piece by piece, with metrics but without checkpoints and evaluations."""

    def __init__(self, setup: Config, folder: Path) -> None:
        self.parts = build(setup)
        self.loop = Loop(setup, folder, self.parts, MetricLog(folder))
        self.progress = Progress(out=io.StringIO())

    def advance(self, agent_steps: int) -> int:
        """Trains for `agent_steps` more, in whole ticks of all environments, and returns how many steps it took."""
        loop, before = self.loop, self.loop.collected
        until = loop.config.run.model_copy(update={"agent_steps": before + agent_steps})
        loop.config = loop.config.model_copy(update={"run": until})
        train_loop(self.parts, loop, self.progress, Stop())
        return loop.collected - before

    def close(self) -> None:
        """Closes the log and the parts of the run."""
        self.loop.log.close()
        self.parts.close()


def rounds_of(ours: Ours, agent_steps: int) -> Work:
    """Training of which each round takes `agent_steps`."""
    return lambda rounds: ours.advance(rounds * agent_steps)


def sb3_rounds(model: Any, agent_steps: int) -> Work:
    """Training in Stable-Baselines3's own loop, of which each round takes `agent_steps`."""

    def work(rounds: int) -> int:
        before = model.num_timesteps
        model.learn(rounds * agent_steps, reset_num_timesteps=False)
        return int(model.num_timesteps - before)

    return work


def _sb3(settings: BenchSettings, device: str) -> Work:
    dqn: Any = importlib.import_module("stable_baselines3").DQN
    model = dqn(
        "CnnPolicy",
        sb3_env(1),
        learning_rate=LEARNING_RATE,
        buffer_size=BUFFER,
        learning_starts=settings.train_start,
        batch_size=BATCH,
        train_freq=EVERY,
        gradient_steps=1,
        target_update_interval=TARGET_PERIOD,
        exploration_initial_eps=EPSILON,
        exploration_final_eps=EPSILON,
        # Off, as by default: with it `learn` cannot be called piece by piece, and every step costs a little more.
        optimize_memory_usage=False,
        seed=1,
        device=device,
    )

    work = sb3_rounds(model, EVERY)
    work(-(-settings.train_start // EVERY) + 1)
    return work
