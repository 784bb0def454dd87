"""The learner, one for all agents and vision models. Shapes: B batch, T steps of a sequence."""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.config.augment import AugmentConfig
from rlsuite.config.schema import LearnerConfig
from rlsuite.core import cpu
from rlsuite.core.agent import Loss, Objective
from rlsuite.core.errors import NotFiniteError, UsageError
from rlsuite.core.schedules import linear
from rlsuite.core.types import Trajectory, to_tensors, tree_map
from rlsuite.learning.augment import augmented
from rlsuite.learning.cuda_graph import Graph
from rlsuite.learning.gpu_memory import explained
from rlsuite.learning.not_finite import KEPT, cause
from rlsuite.learning.parts import Rates, TrainedPart, joined, load_optimizer_state, make_parts, optimizer_state, turn_of
from rlsuite.learning.pruning import Pruner
from rlsuite.learning.resets import check_heads, reset_net
from rlsuite.nets.memory import Recurrent
from rlsuite.nets.precision import Precision, in_bf16
from rlsuite.replay import Sample
from rlsuite.replay.stacks import stacked, stacked_tensors
from rlsuite.runs.checkpoint import load_weights_into


class Update(NamedTuple):
    """Metrics and new priorities from `Learner.step`."""

    metrics: dict[str, Tensor]  # scalars on the learner's device
    priority: Callable[[], NDArray[np.float64]] | None  # waits for priorities [B]; None if there are none, or none were wanted


class DeviceBatch(NamedTuple):
    """A batch on the learner's device, or being copied to it."""

    trajectory: Trajectory  # leaves [T,B,...]
    weights: Tensor  # [B] f32
    keys: NDArray[np.int64]  # [B]
    ready: torch.cuda.Event | None  # recorded once the batch has been copied; None: it is there already
    version: int | None = None  # as in `Sample`


class Weights(NamedTuple):
    """The weights of a net after a number of learner steps."""

    version: int  # learner steps taken
    tensors: dict[str, Tensor]  # the net's `state_dict`, fp32


class Learner:
    """Trains an agent's net, with optimizers, target net, gradient clipping and mixed precision. `step` learns from one batch."""

    def __init__(
        self,
        agent: Objective,
        config: LearnerConfig,
        *,
        seed: int,
        device: torch.device | None = None,
        anneal_over: int = 1,
        reduce: Callable[[list[Tensor]], None] | None = None,
        adapt: Callable[[nn.Module], None] | None = None,
        rates: Rates | None = None,
    ):
        """Makes the net and an optimizer for each of its parts.

        `anneal_over`: agent steps over which the learning rate is annealed to `learning_rate_end`.
        `reduce`: averages gradients across learners, in place; None: there is only one learner.
        `adapt`: called once with the new net, to load initial weights and freeze parameters.
        `rates`: groups a net's parameters, each group with a factor on the learning rate; None: all have the same rate.
        """
        self.reduce = reduce
        self.agent, self.config, self.anneal_over = agent, config, anneal_over
        self.device = device or torch.device("cpu")
        self.seed = seed
        self.rng = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # initial weights
            net = agent.make_net()
        if adapt is not None:
            adapt(net)
        if config.cuda_graphs:
            for module in net.modules():
                if isinstance(module, Recurrent):
                    module.fixed_shapes = True
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        net = net.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.bf16 = in_bf16(config.precision, self.device)
        self.online = Precision(net, self.bf16)
        has_target = agent.has_target or config.act_with_target
        self.frozen = Precision(copy.deepcopy(net).requires_grad_(False), self.bf16) if has_target else None
        if config.compile:
            self.online.net.compile()
            if self.frozen is not None:
                self.frozen.net.compile()
        self.parts = make_parts(agent, self.online, config, rates)
        self.pruner = Pruner(self.online.master, config.prune) if config.prune.share else None
        self.steps = 0
        if config.resets.every_agent_steps is not None:
            check_heads(self.online.master, agent.heads)
        self.resets = 0  # resets so far
        self.reset_at = 0  # learner steps before the last reset
        self._rate = config.learning_rate  # of the current update
        # On a GPU: the first learner step whose gradients were not finite. On a CPU, training stops there.
        self.unsound = None if self.device.type == "cpu" else torch.tensor(2**62, device=self.device)
        self.copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.graph: Graph | None = None
        if config.cuda_graphs and self.device.type != "cuda":
            raise UsageError("learner.cuda_graphs needs a CUDA device")

    @property
    def acting(self) -> Precision:
        """The net to act with: the online net, or the target net with `act_with_target`."""
        return self.frozen if self.frozen is not None and self.config.act_with_target else self.online

    @property
    def net(self) -> nn.Module:
        """The net to act with, in the precision that it computes in; its weights change in place."""
        return self.acting.net

    @property
    def target(self) -> nn.Module:
        """The target net; without one, the net itself."""
        return self.online.net if self.frozen is None else self.frozen.net

    def stage(self, sample: Sample) -> DeviceBatch:
        """Copies a batch to the device and stacks its frames.

        On CUDA, single planes are copied from pinned memory on a separate stream, in parallel with updates, and stacked there.
        """
        if self.copies is None:
            trajectory = to_tensors(stacked(sample.trajectory), self.device)
            return DeviceBatch(trajectory, torch.from_numpy(sample.weights), sample.keys, None, sample.version)
        with torch.cuda.stream(self.copies):
            tree = (sample.trajectory, sample.weights)
            trajectory, weights = tree_map(
                lambda leaf: torch.from_numpy(leaf).pin_memory().to(self.device, non_blocking=True), tree
            )
            trajectory = stacked_tensors(trajectory)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(self.copies)
        return DeviceBatch(trajectory, weights, sample.keys, ready, sample.version)

    def step(self, batch: DeviceBatch, agent_steps: int = 0, want_priority: bool = True) -> Update:
        """Learns from a batch, with one update for each minibatch that the agent's `prepare` yields; metrics are their means.

        `agent_steps`: agent steps of the run so far, for the learning rate and resets. RlsuiteError if the device's memory is full.
        """
        with explained("an update", self.device, self.config.batch_size):
            return self._step(batch, agent_steps, want_priority)

    def _step(self, batch: DeviceBatch, agent_steps: int, want_priority: bool) -> Update:
        self._set_learning_rate(agent_steps)
        self._reset_if_due(agent_steps)
        if self.pruner is not None and self.pruner.advance(agent_steps, self.steps, self._reset_optimizer):
            self._apply_masks()
        trajectory, weights = batch.trajectory, batch.weights
        if batch.ready is not None:
            torch.cuda.current_stream().wait_event(batch.ready)
            tree_map(lambda leaf: leaf.record_stream(torch.cuda.current_stream()), (trajectory, weights))
        lag = None if batch.version is None else self.steps - batch.version
        seen = []
        trajectory = self.observed(trajectory)
        for minibatch in self._minibatches(trajectory):
            shares = weights if minibatch is trajectory else torch.ones_like(minibatch.steps.reward[0])
            if self.config.cuda_graphs:
                self.graph = self.graph or Graph(self.update, self.rng)
                loss, norm = self.graph(minibatch, shares)
            else:
                with cpu.working("updates") if self.device.type == "cpu" else nullcontext():
                    loss, norm = self.update(minibatch, shares)
            self.steps += 1
            if self.unsound is not None:
                self.unsound = torch.where(torch.isfinite(norm), self.unsound, self.unsound.clamp(max=self.steps))
            if self.steps % self.config.target_period_learner_steps == 0:
                self._move_target()
            metrics = {"losses/loss": loss.loss.detach().mean(), "losses/grad_norm": norm, **loss.metrics}
            # A graph writes into the same tensors every time.
            seen.append({name: value.clone() for name, value in metrics.items()} if self.config.cuda_graphs else metrics)
            if loss.stop is not None and bool(loss.stop):
                break
        metrics = seen[0] if len(seen) == 1 else {name: torch.stack([m[name] for m in seen]).mean() for name in seen[0]}
        if self.config.resets.every_agent_steps is not None:
            metrics["charts/resets"] = torch.tensor(float(self.resets))
        if self.pruner is not None:
            metrics["charts/pruned"] = torch.tensor(self.pruner.pruned)
        if lag is not None:
            metrics["charts/policy_lag"] = torch.tensor(float(lag))
        if self.device.type == "cpu":
            metrics["charts/threads"] = torch.tensor(float(cpu.threads_for("updates")))
        priority = None
        if want_priority and loss.td is not None:
            priority = self._on_its_way(self.agent.priority(*loss.priority_inputs()))
        return Update(metrics, priority)

    def _on_its_way(self, priority: Tensor) -> Callable[[], NDArray[np.float64]]:
        """Starts copying priorities [B] to the host, on CUDA without waiting; returns a function that waits for them.

        That function raises NotFiniteError if a priority is not finite.
        """
        copied = None
        if self.copies is not None:
            priority = torch.empty_like(priority, device="cpu", pin_memory=True).copy_(priority, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()

        def arrived() -> NDArray[np.float64]:
            if copied is not None:
                copied.synchronize()
            found: NDArray[np.float64] = priority.double().cpu().numpy()
            if not np.isfinite(found).all():
                raise NotFiniteError(self._not_finite("td error"))
            return found

        return arrived

    def observed(self, trajectory: Trajectory) -> Trajectory:
        """A trajectory on the device, with what `Objective.observe` adds to it."""
        with torch.no_grad(), self._autocast():
            return self.agent.observe(self.online.net, trajectory, learning=True)

    def _minibatches(self, trajectory: Trajectory) -> Iterator[Trajectory]:
        minibatches = self.agent.prepare(self.online.net, trajectory, self.rng)
        while True:
            with torch.no_grad(), self._autocast():
                minibatch = next(minibatches, None)
            if minibatch is None:
                return
            yield minibatch

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def update(self, trajectory: Trajectory, weights: Tensor) -> tuple[Loss, Tensor]:
        """Takes an optimizer step of each part on a minibatch -> (loss, gradient norm before clipping), all on the device.

        On the CPU, raises a NotFiniteError that names the cause before a step with gradients that are not finite.
        """
        agent = self.agent.at(self.steps - self.reset_at)
        if self.config.augment != AugmentConfig():
            trajectory = augmented(agent.used(trajectory), self.config.augment, self.rng)
        return joined(self.parts, [self._turn(part, agent.of_part(part.name), trajectory, weights) for part in self.parts])

    def _turn(self, part: TrainedPart, agent: Objective, trajectory: Trajectory, weights: Tensor) -> tuple[Loss, Tensor]:
        """Takes one optimizer step of one part."""
        with self._autocast(), turn_of(part, self.parts):
            loss = agent.loss(self.online.net, self.target, trajectory, self.rng)
        part.optimizer.zero_grad(set_to_none=not self.config.cuda_graphs)
        (weights * loss.loss).mean().backward()  # type: ignore[no-untyped-call]
        self.online.take_gradients()
        if self.reduce is not None:
            self.reduce(part.gradients())
        norm = nn.utils.get_total_norm(part.gradients())
        if self.device.type == "cpu" and not torch.isfinite(norm):  # on a GPU, this would wait; `check` notices later
            named = [(name, p) for name, p in self.online.master.named_parameters() if p.requires_grad]
            found = f"{part.name}: " * bool(part.name) + cause(trajectory, weights, loss, named)
            raise NotFiniteError(f"learner step {self.steps + 1}: {found} (learner.learning_rate was {self._rate:.3g}): {KEPT}")
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(part.parameters, self.config.max_grad_norm, norm)
        part.optimizer.step()
        if self.pruner is not None:
            self.pruner.apply(self.online.master)
        self.online.refresh()
        return loss, norm.detach()

    def check(self, metrics: dict[str, float]) -> None:
        """Raises NotFiniteError if a metric is not finite, with its name."""
        for name, value in metrics.items():
            if not np.isfinite(value):
                raise NotFiniteError(self._not_finite(name))

    def check_weights(self) -> None:
        """Raises NotFiniteError if a weight is not finite, with its name; called before weights are saved."""
        for net in dict.fromkeys((self.online, self.acting)):
            for name, tensor in net.master.state_dict().items():
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise NotFiniteError(self._not_finite(name))

    def weights(self) -> Weights:
        """The weights of the net to act with, in fp32 (not copied)."""
        return Weights(self.steps, {name: tensor.detach() for name, tensor in self.acting.master.state_dict().items()})

    def learning_rate(self, agent_steps: int) -> float:
        """The learning rate after `agent_steps` agent steps of the run."""
        start, end = self.config.learning_rate, self.config.learning_rate_end
        return start if end is None else linear(start, end, self.anneal_over, agent_steps)

    def _set_learning_rate(self, agent_steps: int) -> None:
        if self.config.learning_rate_end is not None:
            self._rate = self.learning_rate(agent_steps)
            for part in self.parts:
                part.set_learning_rate(self._rate)

    def _reset_if_due(self, agent_steps: int) -> None:
        config = self.config.resets
        if config.every_agent_steps is None:
            return
        due = min(agent_steps, config.until_agent_steps or agent_steps) // config.every_agent_steps
        if due <= self.resets:
            return
        self.resets, self.reset_at = due, self.steps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + due)  # the same for all learners, and after a resume
            fresh = dict(self.agent.make_net().named_parameters())
        own = {id(parameter) for parameter in self.parts[0].parameters}  # other parts, such as a bonus's predictor, are not reset
        trained = {name for name, parameter in self.online.master.named_parameters() if id(parameter) in own}
        for net in (self.online, self.frozen):
            if net is not None:
                reset_net(net.master, fresh, self.agent.heads, config.keep, trained)
                net.refresh()
        self._apply_masks()
        self.parts[0].reset()

    def _apply_masks(self) -> None:
        """Applies the pruning masks to both nets, after anything but an update has changed weights or masks."""
        for net in (self.online, self.frozen):
            if net is not None and self.pruner is not None:
                self.pruner.apply(net.master)
                net.refresh()

    def _reset_optimizer(self) -> None:
        for part in self.parts:
            part.reset()

    def _not_finite(self, name: str) -> str:
        first = None if self.unsound is None else int(self.unsound)
        since = "" if first is None or first > self.steps else f", the gradients since step {first}"
        return f"{name} is not finite at learner step {self.steps}{since}: {KEPT}"

    @torch.no_grad()
    def _move_target(self) -> None:
        if self.frozen is None:
            return
        pairs = zip(self.frozen.master.parameters(), self.online.master.parameters(), strict=True)
        for old, new in pairs:
            if self.config.target_ema is None:
                old.copy_(new)
            else:
                old.lerp_(new, self.config.target_ema)
        for kept, current in zip(self.frozen.master.buffers(), self.online.master.buffers(), strict=True):
            kept.copy_(current)  # such as normalisation statistics, which should not be averaged
        if self.pruner is not None:  # averaged weights are not yet 0 where the online net is pruned
            self.pruner.apply(self.frozen.master)
        self.frozen.refresh()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights of the net to act with, which checkpoints keep in a separate file."""
        other = self.online if self.acting is self.frozen else self.frozen
        return {
            self._other: {} if other is None else other.master.state_dict(),
            "optimizer": optimizer_state(self.parts),
            "rng": self.rng.get_state(),
            "steps": self.steps,
            "resets": self.resets,
            "reset_at": self.reset_at,
            "pruning": {} if self.pruner is None else self.pruner.state_dict(),
        }

    @property
    def _other(self) -> str:
        return "online" if self.acting is self.frozen else "target"

    def load(self, weights: dict[str, Tensor], state: dict[str, Any], where: str) -> None:
        """Loads a checkpoint's weights and `state_dict`. CheckpointError or ValueError if they do not fit.

        `where`: the file that the weights come from, for errors.
        """
        load_weights_into(self.acting.master, weights, where)
        self.load_state_dict(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; load the weights first.

        ValueError if the state is of another optimizer, or was saved with another `act_with_target`.
        """
        if self._other not in state:
            raise ValueError(f"it was saved with learner.act_with_target = {str(not self.config.act_with_target).lower()}")
        load_optimizer_state(self.parts, state["optimizer"])
        if self.frozen is not None:
            other = self.online if self.acting is self.frozen else self.frozen
            other.master.load_state_dict(state[self._other])
            self.frozen.refresh()
        self.online.refresh()
        self.rng.set_state(state["rng"])
        self.steps, self.resets, self.reset_at = state["steps"], state["resets"], state["reset_at"]
        if self.pruner is not None:
            self.pruner.load_state_dict(state.get("pruning", {}))
