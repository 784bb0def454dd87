"""Every agent on another device than the CPU, without one: all tensors are on the meta device, and one of the CPU's is an error.

Also what makes the host wait for a device fails here, such as `.item()` and `.cpu()`, since a meta tensor has no values.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch._dynamo  # as optimizers do when the first is made, which must not be while there is another Generator
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlsuite.acting.act import act
from rlsuite.agents.dqn import DQN
from rlsuite.config.loader import resolve
from rlsuite.config.schema import Config
from rlsuite.core.agent import Agent, Games, Loss, Mode, Rollouts, Sequences, Transitions
from rlsuite.core.masks import KEY
from rlsuite.core.types import EnvSpec, Planes, State, Step, Trajectory, tree_map
from rlsuite.factories import make_agent, make_spec
from rlsuite.learning import parts as parts_module
from rlsuite.learning.learner import Learner
from rlsuite.replay.stacks import stacked_tensors

META = torch.device("meta")
BATCH, ROLLOUT = 4, 6


class OneDevice(TorchDispatchMode):
    """Refuses every operation that reads or makes a tensor of the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, Tensor) and leaf.device.type != "meta":
                raise AssertionError(f"{func} on a tensor of the CPU, {list(leaf.shape)} {leaf.dtype}")
        return out


class MetaGenerator(torch.Generator):
    """A generator that says that it is of the meta device."""

    device = META  # type: ignore[assignment]


@contextmanager
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a learner asks of its device that the meta device does not have."""
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": MetaGenerator())
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    plain = parts_module.make_optimizer

    def made(*args: Any) -> torch.optim.Optimizer:  # its own counters are the CPU's, where it is not fused
        cpu = args[0].model_copy(update={"optimizer": "sgd", "cuda_graphs": False})
        return plain(cpu, *args[1:])

    monkeypatch.setattr(parts_module, "make_optimizer", made)
    yield


def blank(spec: EnvSpec, length: int, extras: dict[str, Tensor], observations: int) -> Step:
    """Steps of one episode, leaves [T,B,...] on the meta device."""
    shape = (length, BATCH)
    no = torch.zeros(shape, dtype=torch.bool, device=META)
    seen = torch.zeros(observations, BATCH, *spec.observation_shape, dtype=getattr(torch, spec.observation_dtype), device=META)
    action = torch.zeros(*shape, *spec.action_shape, dtype=getattr(torch, spec.action_dtype), device=META)
    return Step(seen, torch.zeros(shape, device=META), no, no, no, action, extras)


def run(agent: Agent, config: Config, spec: EnvSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acts, and makes an update with its priorities and the move of the target net, all of it on the meta device."""
    with on_meta(monkeypatch):
        settings = config.learner.model_copy(update={"precision": "fp32", "target_period_learner_steps": 1})
        learner = Learner(agent, settings, seed=0, device=META)
        for module in learner.online.net.modules():
            if hasattr(module, "fixed_shapes"):
                module.fixed_shapes = True  # otherwise it looks where episodes begin, which makes the host wait
        if learner.frozen is not None:
            for module in learner.frozen.net.modules():
                if hasattr(module, "fixed_shapes"):
                    module.fixed_shapes = True
        state = tree_map(lambda leaf: leaf.to(META), agent.initial_state(BATCH))
        for mode in (nullcontext(), OneDevice()):  # the first time, what then stays on the device may be copied to it
            with mode:
                use(agent, learner, spec, state)


def use(agent: Agent, learner: Learner, spec: EnvSpec, state: State) -> None:
    """Acts with and without exploration, and makes an update with its priorities and the move of the target net."""
    rng: Any = MetaGenerator()
    mask = {KEY: torch.ones(1, BATCH, spec.num_actions, dtype=torch.bool, device=META)} if spec.num_actions else {}
    sequence, extras = agent.sequence, dict[str, Tensor]()
    if not agent.plays:
        pass
    elif isinstance(sequence, Games):  # it acts on the host, by search
        extras = {one.name: torch.zeros(BATCH, *one.shape, device=META) for one in sequence.extras}
    else:
        for explore in (True, False):
            with torch.no_grad():
                _, _, extras = act(agent, learner.net, blank(spec, 1, mask, 1), state, Mode(explore, 0, rng, 0, 8))
    if agent.offline:  # its recordings have them
        extras = {one.name: torch.zeros(BATCH, *one.shape, device=META) for one in sequence.extras}  # type: ignore[union-attr]
    if isinstance(sequence, Rollouts):
        beside = {
            one.name: torch.zeros(BATCH, *one.shape, dtype=getattr(torch, one.dtype), device=META) for one in sequence.beside(spec)
        }
        length, kept = ROLLOUT + 1, extras | beside
    else:
        length, kept = sequence.length, {one.name: extras[one.name] for one in sequence.extras}
    kept = {name: leaf.expand(length, *leaf.shape) for name, leaf in kept.items()}
    kept |= {name: leaf.expand(length, -1, -1) for name, leaf in mask.items()}
    sparse = isinstance(sequence, Transitions) and not sequence.whole
    steps = blank(spec, length, kept, 2 if sparse else length)
    trajectory = Trajectory(steps, () if isinstance(sequence, Sequences) and not sequence.state else state)
    part = next(learner._minibatches(learner.observed(trajectory)))
    loss, norm = learner.update(part, torch.ones(part.steps.reward.shape[1], device=META))
    learner._move_target()
    if loss.td is not None:
        assert agent.priority(*loss.priority_inputs()).device == META
    assert all(value.device == META for value in loss.metrics.values())
    assert norm.device == META


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "q_learning": ("classic/q_learning", {}),
    "dqn": ("classic/dqn", {"agent.n_steps": 3}),
    "dqn, all switches": ("atari/rainbow", {"agent.name": "dqn"}),
    "ladder": ("atari/apex-laptop", {}),
    "rainbow": ("atari/rainbow", {}),
    "qrdqn": ("classic/qrdqn", {}),
    "munchausen": ("classic/iqn", {"agent.double": False, "agent.munchausen": True}),
    "iqn": ("classic/iqn", {}),
    "btr": ("atari/btr", {}),
    "self-prediction": ("atari100k/spr", {}),
    "annealed": ("atari100k/bbf", {}),
    "r2d2": ("classic/recall_r2d2", {}),
    "r2d2 from zeros": ("classic/recall_r2d2", {"agent.stored_state": False}),
    "r2d2, embedded action": ("classic/recall_r2d2", {"net.last_action_reward": True, "net.action_embedding": 3}),
    "r2d2, gru": ("classic/recall_r2d2", {"net.memory": "gru"}),
    "r2d2, attention": ("classic/recall_r2d2", {"net.memory": "attention"}),
    "reinforce": ("classic/reinforce", {}),
    "a2c": ("classic/a2c", {}),
    "ppo": ("classic/ppo", {}),
    "ppo, continuous": ("classic/pendulum_ppo", {}),
    "ppo, recurrent": ("classic/recall_ppo", {}),
    "gail": ("classic/cartpole_gail", {}),
    "gail, pictures": ("atari/pong_ppo", {"agent.name": "gail"}),
    "impala": ("classic/impala", {}),
    "pqn": ("classic/pqn", {}),
    "alphazero": ("boards/connect_four", {}),
    "alphazero, territory": ("boards/go9", {"net.torso": "tower(width=8,depth=1)"}),
    "alphazero, graph": ("boards/hex", {"net.torso": "graph(width=8,depth=2)", "net.any_size": True}),
    "alphazero, attention": ("boards/hex", {"net.torso": "graph(width=8,depth=1,attention=true)"}),
    "novelty and an auxiliary loss": ("classic/ppo", {"agent.novelty": "rnd", "net.auxiliary": "reconstruct"}),
    "novelty, a2c": ("classic/a2c", {"agent.novelty": "reconstruction"}),
    "novelty, impala": ("classic/impala", {"agent.novelty": "rnd"}),
    "novelty, reinforce": ("classic/reinforce", {"agent.novelty": "rnd"}),
    "novelty, pictures": ("atari/rainbow", {"agent.novelty": "rnd", "net.auxiliary": "reconstruct", "agent.name": "dqn"}),
    "novelty, c51": ("atari/rainbow", {"agent.novelty": "reconstruction", "net.auxiliary": "reconstruct"}),
    "novelty, iqn": ("classic/iqn", {"agent.novelty": "rnd", "net.auxiliary": "reconstruct"}),
    "novelty, r2d2": ("classic/recall_r2d2", {"agent.novelty": "rnd", "net.auxiliary": "reconstruct"}),
    "novelty, states": ("classic/q_learning", {"agent.novelty": "rnd"}),
    "novelty, pqn": ("classic/pqn", {"agent.novelty": "rnd", "net.auxiliary": "reconstruct"}),
    "cloning, auxiliary": ("classic/cartpole_cloning", {"net.auxiliary": "reconstruct"}),
    "cloning": ("classic/cartpole_cloning", {}),
    "cloning, recurrent": ("classic/key_door_cloning", {"agent.burn_in": 2}),
    "cloning, causal": ("classic/key_door_cloning", {"net.memory": "causal(levels=3)"}),
    "inverse dynamics": ("atari/pong_actions", {}),
    "masked steps": ("classic/key_door_masked", {}),
    "masked steps, attention": ("classic/key_door_masked", {"net.memory": "attention(window=8)"}),
    "decision transformer": ("classic/cartpole_dt", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_agent_stays_on_its_device(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, changes = CASES[case]
    config = resolve(name, changes)
    spec = make_spec(config)
    run(make_agent(config, spec), config, spec, monkeypatch)


def test_planes_are_stacked_on_their_device() -> None:
    steps = blank(EnvSpec((6, 5), "uint8", 2, None, 1, 1), 7, {}, 10)
    with OneDevice():
        found = stacked_tensors(Trajectory(steps._replace(observation=Planes(steps.observation)), ()))
    assert found.steps.observation.shape == (7, BATCH, 4, 6, 5)


class HostTensor(DQN):
    """Multiplies by a tensor that was made on the CPU."""

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        loss = super().loss(net, target, trajectory, rng)
        return loss._replace(loss=loss.loss * torch.ones(BATCH))


class Waits(DQN):
    """Looks at its own loss."""

    def loss(self, net: nn.Module, target: nn.Module, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        loss = super().loss(net, target, trajectory, rng)
        return loss._replace(loss=loss.loss * loss.loss.mean().item())


@pytest.mark.parametrize("kind", [HostTensor, Waits])
def test_a_planted_fault_is_found(kind: type[DQN], monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("classic/dqn")
    spec = make_spec(config)
    with pytest.raises((AssertionError, RuntimeError), match=r"tensor of the CPU|on device cpu|meta tensors"):
        run(kind(config.agent, config.net, spec), config, spec, monkeypatch)
