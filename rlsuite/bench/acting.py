"""env, inference, collect: the speed of environments, of the agent's `act`, and of both together in the collector.

Shapes: O observations to choose from, L environments.
"""

import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from rlsuite.acting.collector import Collector
from rlsuite.bench.measure import (
    DUELING,
    NOT_INSTALLED,
    PONG,
    BenchSettings,
    Row,
    Target,
    Work,
    alternate,
    config,
    lacking,
    named,
    repeated,
)
from rlsuite.config.schema import Config
from rlsuite.core.agent import Agent, Mode, Net
from rlsuite.core.types import Step, to_tensors
from rlsuite.factories import device_of, make_agent, make_env
from rlsuite.nets.precision import Precision, in_bf16, inference

REFERENCE_ENVS = 8
OBSERVATIONS = 32  # used in turn, so that none is still in a cache


def bench_env(settings: BenchSettings) -> list[Row]:
    """Environment steps per second in Pong under random actions, ours against a vector env written in Python."""
    setup = config(settings, DUELING)
    contenders = {"ours": _random_play(make_env(setup), settings.num_envs)}
    reference, label = _reference_env()
    if reference is not None:
        contenders["reference"] = _random_play(reference, REFERENCE_ENVS)
    rates = alternate("env", contenders, settings)
    what = (
        f"Pong, random actions, stacks of 4 grey planes of 84x84: our {settings.num_envs} environments on ALE's C++ vector env, "
        f"against {label}"
    )
    return [Row("env", what, "steps/s", rates["ours"], rates.get("reference"))]


def bench_inference(settings: BenchSettings) -> list[Row]:
    """Observations per second of `agent.act` alone, in bf16 and channels_last against fp32 and NCHW."""
    setup = config(settings, DUELING)
    contenders = {"ours": _act(setup, fast=True), "reference": _act(setup, fast=False)}
    rates = alternate("inference", contenders, settings)
    what = (
        f"act of dueling double DQN, Nature torso, {settings.num_envs} environments per call: bf16 + channels_last, against fp32 "
        "and contiguous NCHW"
    )
    return [Row("inference", what, "obs/s", rates["ours"], rates["reference"])]


def bench_collect(settings: BenchSettings) -> list[Row]:
    """Steps per second of the collector, against the bound that its two parts set when they run one after the other."""
    setup = config(settings, DUELING)
    device = device_of(setup)
    agent = make_agent(setup, PONG)
    net = _net(agent, device, fast=True)
    # At step 0 every action is random although the net runs, so the games are like those of the env benchmark.
    collector = Collector(make_env(setup), agent, net, seed=1, device=device, bf16=in_bf16("bf16", device))
    contenders = {
        "env": _random_play(make_env(setup), settings.num_envs),
        "inference": _act(setup, fast=True),
        "collect": repeated(lambda: collector.collect(1, agent_steps=0), settings.num_envs),
    }
    rates = alternate("collect", contenders, settings)
    bound = 1 / (1 / rates["env"] + 1 / rates["inference"])
    what = (
        f"Collector, Pong, {settings.num_envs} environments, dueling double DQN in bf16, against 1/(1/env + 1/inference) "
        f"= 1/(1/{rates['env']:,.0f} + 1/{rates['inference']:,.0f}) measured in alternation with it"
    )
    return [Row("collect", what, "steps/s", rates["collect"], bound, Target("ratio", ">=", 0.85))]


def _random_play(vector_env: Any, num_envs: int) -> Work:
    """Steps of a vector env (ours, Gymnasium's or Stable-Baselines3's) under actions drawn beforehand."""
    actions = itertools.cycle(np.random.default_rng(0).integers(PONG.num_actions, size=(4096, num_envs)))
    vector_env.reset()
    return repeated(lambda: vector_env.step(next(actions)), num_envs)


def _reference_env() -> tuple[Any | None, str]:
    """A vector env of REFERENCE_ENVS environments in Python, and its label. Either kind resizes with OpenCV: None without it."""
    if lacking(["cv2"]):
        return None, f"Stable-Baselines3's vector env ({NOT_INSTALLED})"
    if not lacking(["stable_baselines3"]):
        return sb3_env(REFERENCE_ENVS), (
            f"{named('stable_baselines3')}'s make_atari_env + VecFrameStack (AtariWrapper, DummyVecEnv of {REFERENCE_ENVS})"
        )
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    gymnasium.register_envs(ale_py)

    def make_one() -> Any:
        game = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
        return FrameStackObservation(AtariPreprocessing(game), 4)

    label = f"{named('gymnasium')}'s SyncVectorEnv of {REFERENCE_ENVS} AtariPreprocessing + FrameStackObservation"
    return gymnasium.vector.SyncVectorEnv([make_one] * REFERENCE_ENVS), label


def sb3_env(num_envs: int) -> Any:
    """Pong in Stable-Baselines3's own Atari wrappers, as its documentation and its zoo build them."""
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    make: Callable[..., Any] = importlib.import_module("stable_baselines3.common.env_util").make_atari_env
    stack: Callable[..., Any] = importlib.import_module("stable_baselines3.common.vec_env").VecFrameStack
    return stack(make("PongNoFrameskip-v4", n_envs=num_envs, seed=1), n_stack=4)


def _net(agent: Agent, device: torch.device, fast: bool) -> Net:
    layout = torch.channels_last if fast else torch.contiguous_format
    net: Net = agent.make_net().to(device, memory_format=layout)  # type: ignore[call-overload]
    return Precision(net.requires_grad_(False), bf16=fast and in_bf16("bf16", device)).net


def _act(setup: Config, fast: bool) -> Work:
    """Calls of `act` on random observations [1,L,4,84,84]: bf16 and channels_last with `fast`, else fp32 and contiguous."""
    device, num_envs = device_of(setup), setup.env.num_envs
    agent = make_agent(setup, PONG)
    net = _net(agent, device, fast)
    pixels = np.random.default_rng(0).integers(256, size=(OBSERVATIONS, 1, num_envs, 84, 84, 4), dtype=np.uint8)
    observations = np.moveaxis(pixels, -1, 3)  # [O,1,L,4,84,84]
    if not fast:
        observations = np.ascontiguousarray(observations)
    false = np.zeros((1, num_envs), bool)
    steps = [
        Step(
            observation=observation,
            reward=np.zeros((1, num_envs), np.float32),
            first=false,
            last=false,
            terminal=false,
            action=np.zeros((1, num_envs), np.int64),
            extras={},
        )
        for observation in observations
    ]
    inputs: Iterator[Step] = itertools.cycle(to_tensors(step, device) for step in steps)
    mode = Mode(explore=True, agent_steps=0, rng=torch.Generator(device).manual_seed(1))

    bf16 = fast and in_bf16("bf16", device)

    def once() -> None:
        with inference(device, bf16):
            agent.act(net, next(inputs), (), mode)[0].cpu()

    return repeated(once, num_envs)
