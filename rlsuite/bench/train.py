"""train: whole training, environment and updates together, once learning has begun."""

import importlib
import io
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlsuite.bench.acting import sb3_env
from rlsuite.bench.measure import NOT_INSTALLED, PLAIN, BenchSettings, Row, Target, Work, alternate, config, lacking, named, say
from rlsuite.build import build, device_of
from rlsuite.config import Config
from rlsuite.metrics import MetricLog
from rlsuite.progress import Progress
from rlsuite.resolve import config_names, resolve
from rlsuite.runtime.local import Loop, train_loop

SAMPLES_PER_INSERT = 8  # a batch of 32 every 4 steps
BATCH, EVERY = 32, 4
BUFFER = 10_000
EPSILON, LEARNING_RATE, TARGET_PERIOD = 0.05, 1e-4, 10_000  # the last in agent steps
SHIPPED = ("atari/pong", "atari/dqn")  # whose lanes and batch are measured too
TARGETS = {"bf16": Target("ratio", ">=", 1.7), "atari/pong": Target("ratio", ">=", 4.0)}


def bench_train(settings: BenchSettings) -> list[Row]:
    shipped = {name: resolve(name) for name in SHIPPED if name in config_names()}
    setups = {
        "bf16": setup_of(settings, 1, EVERY, BATCH, "bf16"),
        "fp32": setup_of(settings, 1, EVERY, BATCH, "fp32"),
    }
    for name, theirs in shipped.items():
        setups[name] = setup_of(settings, theirs.env.lanes, theirs.run.collect_agent_steps, theirs.learner.batch_size, "bf16")
    with ExitStack() as stack:
        contenders: dict[str, Work] = {}
        for name, setup in setups.items():
            say(f"train: collecting the first {settings.train_start:,} steps, {name}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = Ours(setup, folder)
            stack.callback(ours.close)
            ours.advance(settings.train_start)
            contenders[name] = rounds_of(ours, setup.env.lanes * setup.run.collect_agent_steps)
        label = f"Stable-Baselines3's DQN ({NOT_INSTALLED})"
        if not lacking(["stable_baselines3", "cv2"]):
            say(f"train: collecting the first {settings.train_start:,} steps, Stable-Baselines3")
            contenders["reference"] = _sb3(settings, str(device_of(setups["bf16"])))
            label = f"{named('stable_baselines3')}'s DQN (CnnPolicy, fp32)"
        rates = alternate("train", contenders, settings)
    numbers = f"1 env, batch {BATCH} every {EVERY} steps, Nature net of 512 units, Adam, buffer {BUFFER:,}, ε {EPSILON}"
    same = f"channels_last, against {label}, both with {numbers}; once learning has begun"
    what = {"bf16": f"Pong, local runtime, bf16, {same}", "fp32": f"Pong, local runtime, fp32, {same}"}
    for name, theirs in shipped.items():
        what[name] = (
            f"Pong, local runtime, bf16, channels_last, the same net and as many samples per insert ({SAMPLES_PER_INSERT}), but "
            f"lanes ({theirs.env.lanes}) and batch ({theirs.learner.batch_size}) of our config {name}, "
            f"against {label} with {numbers}; once learning has begun"
        )
    labels = {"bf16": "train/same", "fp32": "train/same fp32", **{name: f"train/{name}" for name in shipped}}
    reference = rates.get("reference")
    return [Row(labels[key], what[key], "agent steps/s", rates[key], reference, TARGETS.get(key)) for key in setups]


def setup_of(settings: BenchSettings, lanes: int, chunk: int, batch: int, precision: str) -> Config:
    """Plain DQN with Stable-Baselines3's numbers; what `AtariWrapper` does to a game is switched on too."""
    return config(
        settings,
        {**PLAIN, "epsilon_start": EPSILON, "epsilon_end": EPSILON},
        env={"lanes": lanes, "life_loss": True, "fire_reset": True},
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
        run={"collect_agent_steps": chunk, "checkpoint_minutes": 1e9},
    )


class Ours:
    """A run of the local runtime that goes on in pieces: its own loop, metrics written, no checkpoints or evaluations."""

    def __init__(self, setup: Config, folder: Path) -> None:
        self.loop = Loop(setup, folder, build(setup), MetricLog(folder))
        self.progress = Progress(out=io.StringIO())

    def advance(self, agent_steps: int) -> int:
        """Trains for so many agent steps more, whole ticks of all lanes -> how many it were."""
        loop, before = self.loop, self.loop.collected
        until = loop.config.run.model_copy(update={"agent_steps": before + agent_steps})
        loop.config = loop.config.model_copy(update={"run": until})
        train_loop(loop, self.progress, [])
        return loop.collected - before

    def close(self) -> None:
        self.loop.log.close()
        self.loop.parts.env.close()


def rounds_of(ours: Ours, agent_steps: int) -> Work:
    return lambda rounds: ours.advance(rounds * agent_steps)


def sb3_rounds(model: Any, agent_steps: int) -> Work:
    """A round is so many steps of Stable-Baselines3's own loop."""

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
        # Off, as by default: whoever switches it on may not call `learn` in pieces, and every step costs a little more.
        optimize_memory_usage=False,
        seed=1,
        device=device,
    )

    work = sb3_rounds(model, EVERY)
    work(-(-settings.train_start // EVERY) + 1)
    return work
