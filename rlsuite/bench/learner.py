"""learner: updates on random batches that are already on the device.

Shapes: B batch.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlsuite.bench.measure import DUELING, PLAIN, PONG, BenchSettings, Row, Target, Work, alternate, config, repeated, say
from rlsuite.core.types import State, Step, Trajectory
from rlsuite.factories import device_of, make_agent
from rlsuite.learning.learner import Learner
from rlsuite.replay import Sample
from rlsuite.replay.layout import layout_of

KINDS = {
    "plain": ("plain DQN, n = 1", PLAIN),
    "dueling": ("dueling double DQN, n = 3", DUELING),
}
DIFFERENT_BATCHES = 4  # used in turn, so that none is still in a cache


def bench_learner(settings: BenchSettings) -> list[Row]:
    """Samples per second of `Learner.step` for two kinds of DQN; on a GPU also eager, compiled and with CUDA graphs."""
    rows = []
    for kind, (label, agent) in KINDS.items():
        contenders = {
            "ours": updates(settings, agent, settings.batch, nchw=False, precision="bf16", channels_last=True),
            "reference": updates(settings, agent, settings.batch, nchw=True, precision="fp32", channels_last=False),
        }
        rates = alternate(f"learner/{kind}", contenders, settings)
        what = (
            f"Learner.step, {label}, Nature torso, batch {settings.batch}: bf16 + channels_last, as the replay returns batches, "
            "against fp32 NCHW (batches and weights made contiguous beforehand)"
        )
        rows.append(Row(f"learner/{kind}", what, "samples/s", rates["ours"], rates["reference"], Target("ratio", ">=", 2.2)))
    if device_of(config(settings, PLAIN)).type == "cuda":
        rows += _gpu(settings)
    return rows


def _gpu(settings: BenchSettings) -> list[Row]:
    batch = settings.cuda_batch
    modes: dict[str, dict[str, Any]] = {
        "eager": {},
        "compiled": {"compile": True},
        "graphs": {"compile": True, "cuda_graphs": True},
    }
    labels = {"eager": "eager", "compiled": "compiled, against eager", "graphs": "compiled + CUDA graphs, against eager"}
    contenders, failed = {}, {}
    for mode, switches in modes.items():
        try:
            work = updates(settings, DUELING, batch, nchw=False, precision="bf16", channels_last=True, **switches)
            work(5)
            contenders[mode] = _in_batches(work, batch)
        except RuntimeError as error:  # torch.compile needs a C compiler and Triton, which not every machine has
            failed[mode] = " ".join(str(error).split())[:200]
            say(f"learner/{mode}: {failed[mode]}")
    rates = alternate("learner on the GPU", contenders, settings)
    rows = []
    for mode, label in labels.items():
        what = f"Learner.step, dueling double DQN, n = 3, Nature torso, batch {batch}, bf16 + channels_last, {label}"
        what += f" (failed: {failed[mode]})" if mode in failed else ""
        target = Target("ours", ">=", 200) if mode == "graphs" else None
        reference = rates.get("eager") if mode != "eager" else None
        rows.append(Row(f"learner/{mode}", what, "batches/s", rates.get(mode), reference, target))
    return rows


def _in_batches(work: Work, batch: int) -> Work:
    return lambda rounds: work(rounds) // batch


def updates(
    settings: BenchSettings, agent: dict[str, Any], batch: int, *, nchw: bool, net: Mapping[str, Any] | None = None, **switches: Any
) -> Work:
    """Updates of a new learner, without priorities. `switches` are keys of its config section, `net` holds keys of the net's."""
    setup = config(settings, agent, net=net or {}, learner={"batch_size": batch, **switches})
    made = make_agent(setup, PONG)
    trained = Learner(made, setup.learner, seed=1, device=device_of(setup))
    samples = [random_sample(batch, layout_of(made.sequence).length, nchw, seed) for seed in range(DIFFERENT_BATCHES)]
    batches = itertools.cycle([trained.stage(sample) for sample in samples])
    return repeated(lambda: trained.step(next(batches), want_priority=False), batch)


def random_sample(batch: int, length: int, nchw: bool, seed: int, seen: int = 2, state: State = ()) -> Sample:
    """A random sample as a replay returns it: `length` steps [length,B] in which no episode ends.

    Its observations [seen,B,4,84,84] are channels-last in memory, or contiguous with `nchw`.
    """
    rng = np.random.default_rng(seed)
    observation = np.moveaxis(rng.integers(256, size=(seen, batch, 84, 84, 4), dtype=np.uint8), -1, 2)
    false = np.zeros((length, batch), bool)
    steps = Step(
        observation=np.ascontiguousarray(observation) if nchw else observation,
        reward=rng.standard_normal((length, batch)).astype(np.float32),
        first=false,
        last=false,
        terminal=false,
        action=rng.integers(PONG.num_actions, size=(length, batch)),
        extras={},
    )
    return Sample(Trajectory(steps, state), np.arange(batch), np.ones(batch, np.float32))
