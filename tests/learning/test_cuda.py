"""What only a card can show: `pytest -m gpu`.

With RLSUITE_TEST_DEVICE=cpu all but the graphs run on a CPU, to try the tests themselves.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import differences, final

import rlsuite
from rlsuite.acting.crossing import Crossing
from rlsuite.config.loader import resolve
from rlsuite.config.schema import Config
from rlsuite.core.types import part_of, tree_zip
from rlsuite.factories import build, make_agent, make_learner, make_spec
from rlsuite.learning.learner import Learner
from rlsuite.replay import Sample

DEVICE = os.environ.get("RLSUITE_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no CUDA device"),
]
needs_a_card = pytest.mark.skipif(DEVICE != "cuda", reason="CUDA graphs need a CUDA device")

SMALL: dict[str, Any] = {"run.threads": 1, "net.hidden": 32, "replay.min_agent_steps": 200, "learner.batch_size": 16}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("classic/dqn", SMALL),
    "pixels": ("atari/pong", SMALL | {"env.num_envs": 4, "replay.capacity_agent_steps": 2_000, "net.hidden": 64}),
    "rainbow": ("classic/rainbow", SMALL),
    "iqn": ("classic/iqn", SMALL),
    "btr": ("atari/btr-laptop", SMALL | {"env.num_envs": 4, "replay.capacity_agent_steps": 2_000, "net.hidden": 64}),
    "r2d2": ("classic/recall_r2d2", SMALL | {"env.num_envs": 4, "replay.capacity_agent_steps": 2_000}),
}


def setup(case: str, **changes: Any) -> Config:
    """The config of a case on the device, in fp32."""
    name, overrides = CASES[case]
    return resolve(name, {**overrides, "run.device": DEVICE, "learner.precision": "fp32", **changes})


def samples(config: Config, count: int) -> list[Sample]:
    """Batches from a replay that was filled by acting on the device."""
    parts = build(config)
    steps = 0
    while not parts.replay.can_sample(config.learner.batch_size):
        steps += parts.collector.advance(steps)[0]
        if parts.collector.ready(config.run.collect_agent_steps):
            parts.replay.add(parts.collector.take())
    found = [parts.replay.sample(config.learner.batch_size) for _ in range(count)]
    parts.close()
    return found


def learner_of(config: Config) -> Learner:
    return make_learner(config, make_agent(config, make_spec(config)), torch.device(DEVICE))


def losses(config: Config, batches: list[Sample]) -> list[float]:
    """The losses of one update on each batch."""
    learner = learner_of(config)
    return [float(learner.step(learner.stage(batch), 1000).metrics["losses/loss"]) for batch in batches]


@needs_a_card
@pytest.mark.parametrize("case", CASES)
def test_graphs_equal_eager(case: str) -> None:
    batches = samples(setup(case), 8)
    eager, graphs = losses(setup(case), batches), losses(setup(case, **{"learner.cuda_graphs": True}), batches)
    np.testing.assert_allclose(graphs, eager, rtol=2e-3, atol=1e-4)
    assert len(set(graphs)) == len(graphs)  # a graph that is not fed returns the same loss again


@pytest.mark.parametrize("case", ["dqn", "pixels"])
def test_compiled_equals_eager(case: str) -> None:
    batches = samples(setup(case), 4)
    eager, compiled = losses(setup(case), batches), losses(setup(case, **{"learner.compile": True}), batches)
    np.testing.assert_allclose(compiled, eager, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_bf16_is_close_to_fp32(case: str) -> None:
    batches = samples(setup(case), 2)
    full, half = losses(setup(case), batches), losses(setup(case, **{"learner.precision": "bf16"}), batches)
    np.testing.assert_allclose(half, full, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("case", CASES)
def test_the_device_agrees_with_the_cpu(case: str) -> None:
    """Of agents that draw random numbers in their loss, whose streams differ, only the size of the loss."""
    batches = samples(setup(case), 2)
    there, config = losses(setup(case), batches), setup(case, **{"run.device": "cpu"})
    learner = make_learner(config, make_agent(config, make_spec(config)), torch.device("cpu"))
    here = [float(learner.step(learner.stage(batch), 1000).metrics["losses/loss"]) for batch in batches]
    np.testing.assert_allclose(there, here, rtol=0.5 if case in ("rainbow", "iqn") else 1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["dqn", "pixels", "r2d2"])  # the others draw random numbers to act
def test_the_learners_weights_act_the_same_on_the_cpu(case: str) -> None:
    there, here = setup(case), setup(case, **{"run.device": "cpu"})
    learner, batch = learner_of(there), samples(there, 1)[0]
    copy = make_learner(here, make_agent(here, make_spec(here)), torch.device("cpu"))
    learner.step(learner.stage(batch), 1000)
    copy.acting.master.load_state_dict({name: tensor.cpu() for name, tensor in learner.weights().tensors.items()})
    values = []
    for one in (learner, copy):
        steps, state = one.stage(batch).trajectory
        first = part_of(steps, slice(1))
        with torch.no_grad():
            values.append(one.agent.q_values(one.net, first, state, one.rng)[0].cpu())  # type: ignore[attr-defined]
    torch.testing.assert_close(*values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["dqn", "pixels", "r2d2"])
def test_page_locked_memory_gives_the_same_unrolls(case: str) -> None:
    unrolls = []
    for buffered in (False, True):
        parts = build(setup(case))
        parts.collector.crossing = Crossing(torch.device(DEVICE), buffered)  # type: ignore[union-attr]
        for k in range(20):
            parts.collector.advance(k)
        unrolls.append(parts.collector.take())
        parts.close()
    tree_zip(np.testing.assert_array_equal, *(unroll.steps for unroll in unrolls))


@pytest.mark.parametrize("case", ["dqn", "pixels", "r2d2"])
def test_resumed_equals_uninterrupted(case: str, tmp_path: Path) -> None:
    name, overrides = CASES[case]
    n = 1_000 if case == "pixels" else 600
    settings = {**overrides, "run.device": DEVICE, "eval.every_agent_steps": None, "eval.episodes": 1, "eval.stop_at_return": None}
    settings["learner.learning_rate_end"] = None  # a rate that falls to the end of the run would fall faster in the first half
    rlsuite.train(name, {**settings, "run.agent_steps": 2 * n}, run_dir=tmp_path / "whole")
    rlsuite.train(name, {**settings, "run.agent_steps": n}, run_dir=tmp_path / "halves")
    rlsuite.train(None, {"run.agent_steps": 2 * n}, resume=tmp_path / "halves")
    whole, halves = final(tmp_path / "whole"), final(tmp_path / "halves")
    if case == "pixels":  # its environments begin new episodes
        assert whole.agent_steps == halves.agent_steps
    else:
        assert not differences(whole.weights, halves.weights)
