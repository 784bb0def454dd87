"""sequences: R2D2's updates, and bytes per stored observation.

Shapes: B sequences, T steps of a sequence.
"""

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlsuite.bench.learner import random_sample
from rlsuite.bench.measure import PONG, BenchSettings, Row, Target, Work, alternate, config, repeated, say
from rlsuite.bench.replay import nbytes
from rlsuite.config.schema import Config, ReplayConfig
from rlsuite.core.agent import Agent
from rlsuite.core.types import State, Step, Unroll, tree_map
from rlsuite.factories import device_of, make_agent
from rlsuite.learning.learner import Learner
from rlsuite.replay import build_replay
from rlsuite.replay.layout import layout_of
from rlsuite.replay.stacks import stacked

AGENT: dict[str, Any] = {"name": "r2d2"}  # as in the paper: 40 steps of burn-in, 80 to learn from, 5 to bootstrap, stride 40
NET: dict[str, Any] = {"memory": "lstm", "memory_size": 512, "last_action_reward": True}
DIFFERENT_BATCHES = 2


class StepByStep(nn.Module):
    """A net that runs another one step by step instead of on a whole sequence."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        """The outputs [T,B,...] for steps [T,B], and the state after the last one."""
        outs = []
        for t in range(step.first.shape[0]):
            one: Step = tree_map(lambda leaf: leaf[t : t + 1], step)  # noqa: B023  (used at once)
            out, state = self.net(one, state)
            outs.append(out)
        return torch.cat(outs), state


def stepwise(agent: Agent) -> Agent:
    """The same agent, changed to make nets that run step by step."""
    whole = agent.make_net
    agent.make_net = lambda: StepByStep(whole())  # type: ignore[method-assign]
    return agent


def bench_sequences(settings: BenchSettings) -> list[Row]:
    """Sequences per second of R2D2's `Learner.step`, against the net unrolled step by step; bytes per stored observation."""
    batch = settings.sequences
    setup = setup_of(settings, batch, precision="bf16", channels_last=True)
    plain = setup_of(settings, batch, precision="fp32", channels_last=False)
    contenders = {
        "ours": updates(setup, make_agent(setup, PONG), batch, nchw=False),
        "steps": updates(setup, stepwise(make_agent(setup, PONG)), batch, nchw=False),
        "plain": updates(plain, stepwise(make_agent(plain, PONG)), batch, nchw=True),
    }
    rates = alternate("sequences", contenders, settings)
    agent = make_agent(setup, PONG)
    numbers = f"{batch} sequences of {layout_of(agent.sequence).length} steps, Nature torso, LSTM of 512"
    what = f"Learner.step of R2D2, {numbers}, bf16 + channels_last, against "
    return [
        Row(
            "sequences/plain",
            what + "the same net unrolled step by step in fp32 NCHW",
            "sequences/s",
            rates["ours"],
            rates["plain"],
            Target("ratio", ">=", 5.0),
        ),
        Row("sequences/steps", what + "the same, unrolled step by step", "sequences/s", rates["ours"], rates["steps"]),
        *_replay(settings, setup, batch),
    ]


def setup_of(settings: BenchSettings, batch: int, **learner: Any) -> Config:
    """The config of R2D2 on Pong; `learner` holds keys of its learner section."""
    agent = {**AGENT, "burn_in": 4, "unroll": 8, "stride": 4} if settings.quick else AGENT
    return config(settings, agent, net=NET, learner={"batch_size": batch, **learner})


def updates(setup: Config, agent: Agent, batch: int, nchw: bool) -> Work:
    """Updates of a new learner on random sequences, contiguous with `nchw`."""
    learner = Learner(agent, setup.learner, seed=1, device=device_of(setup))
    length = layout_of(agent.sequence).length
    state = tree_map(lambda leaf: leaf.numpy(), agent.initial_state(batch))
    samples = [random_sample(batch, length, nchw, seed, length, state) for seed in range(DIFFERENT_BATCHES)]
    batches = itertools.cycle([learner.stage(sample) for sample in samples])
    return repeated(lambda: learner.step(next(batches)), batch)


def _replay(settings: BenchSettings, setup: Config, batch: int) -> list[Row]:
    """Bytes per observation in a full prioritized replay of noise, and batches from it with and without stacked frames."""
    agent, num_envs, unroll = make_agent(setup, PONG), 4, 40
    layout = layout_of(agent.sequence)
    slots = max(settings.replay_steps // num_envs, 400)
    say(f"sequences: filling a replay with {slots * num_envs:,} steps")
    sized = ReplayConfig(capacity_agent_steps=slots * num_envs, min_agent_steps=1, samples_per_insert=1e12, prioritized=True)
    store = build_replay(sized, PONG, num_envs, agent.sequence, unroll, seed=1)
    rng = np.random.default_rng(2)
    planes = rng.integers(256, size=(unroll, num_envs, 84, 84), dtype=np.uint8)
    false = np.zeros((unroll, num_envs), bool)
    for begin in range(0, slots + unroll, unroll):
        starts = np.repeat(((begin + np.arange(unroll)) % layout.stride == 0)[:, None], num_envs, 1)
        state = tuple(rng.random((int(starts.sum()), *leaf.shape)).astype(leaf.dtype) for leaf in layout.state)
        steps = Step(
            planes, rng.random((unroll, num_envs), np.float32), false, false, false, rng.integers(6, size=(unroll, num_envs)), {}
        )
        store.add(Unroll(steps, starts=starts, state=state))
    what = (
        f"ring + selector of R2D2, prioritized: arrays of a full replay of {len(store):,} steps in {num_envs} environments, "
        f"each frame stored once, an LSTM state every {layout.stride} steps, per stored observation"
    )
    stored = Row("sequences/bytes", what, "bytes/observation", nbytes(store) / len(store), None, Target("ours", "<=", 7700))
    contenders = {
        "ours": repeated(lambda: store.sample(batch), batch),
        "stacked": repeated(lambda: stacked(store.sample(batch).trajectory), batch),
    }
    rates = alternate("sequences/sample", contenders, settings)
    what = f"R2D2's replay: {batch} sequences as single planes, which a GPU stacks itself, against stacking them on the host"
    return [stored, Row("sequences/sample", what, "sequences/s", rates["ours"], rates["stacked"])]
