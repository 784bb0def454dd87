"""The collector: steps a vector environment with an agent's `act`. Shapes: K steps, L environments, S planes of a frame stack."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.act import act
from rlsuite.acting.crossing import Crossing
from rlsuite.acting.initial_priorities import InitialPriorities
from rlsuite.core import masks
from rlsuite.core.agent import Actor, Mode, Net
from rlsuite.core.errors import RlsuiteError
from rlsuite.core.types import State, Step, Unroll, as_tuples, describe, translations, tree_map, tree_zip
from rlsuite.nets.precision import inference
from rlsuite.replay.layout import Starts


class Episode(NamedTuple):
    """A finished episode, with the raw score of the game."""

    episodic_return: float  # sum of raw rewards
    length: int  # agent steps
    env_index: int


class Collector:
    """Collects unrolls of `Step`s from L environments, which are seeded once, at the first reset."""

    def __init__(
        self,
        env: Any,
        agent: Actor,
        net: Net,
        *,
        seed: int,
        explore: bool = True,
        device: torch.device | None = None,
        bf16: bool = False,
        first_env: int = 0,
        total_envs: int = 0,
        priorities: InitialPriorities | None = None,
    ):
        """`first_env`, `total_envs`: see `Mode`. `priorities`: computes initial priorities; None leaves them to the store."""
        self.priorities, self.place = priorities, (first_env, total_envs)
        self.env, self.agent, self.net, self.explore, self.bf16 = env, agent, net, explore, bf16
        self.device = device or torch.device("cpu")
        self.crossing = Crossing(self.device)
        self.num_envs: int = env.num_envs
        spec = describe(env)
        self.stack = spec.stack
        self.spec = spec
        self.observed, self.chosen = translations(spec)
        self.no_action = np.zeros((self.num_envs, *spec.action_shape), spec.action_dtype)  # [L,...]
        self.rng = torch.Generator(self.device).manual_seed(seed)
        self.state: State = self._initial_state()
        self.version = 0  # learner steps of the net's weights
        self.under_way: Step | None = None  # steps [L,...] in the background, which the next `advance` waits for
        self.pending: list[Step] = []  # steps [L,...] of the unroll that `take` will return, with single planes
        self.start: Unroll | None = None  # that unroll without its steps
        self.starts = Starts(agent.sequence, self.num_envs)
        self.returns = np.zeros(self.num_envs, np.float64)  # [L] so far, of the current episodes
        self.lengths = np.zeros(self.num_envs, np.int64)  # [L] so far, of the current episodes
        self.current_step = self._first(*env.reset(seed=seed))

    def _initial_state(self) -> State:
        return tree_map(lambda leaf: leaf.to(self.device), self.agent.initial_state(self.num_envs))

    def _first(self, observation: NDArray[Any], info: dict[str, Any]) -> Step:
        """The first steps after a reset, before any action: leaves [L,...]."""
        false = np.zeros(self.num_envs, bool)
        return Step(
            self.observed.to_agent(observation),
            np.zeros(self.num_envs, np.float32),
            ~false,
            false,
            false,
            action=self.no_action,
            extras=self._extras(info),
        )

    def _extras(self, info: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """The info values that come with an observation, [L,...]: those of `spec.info_keys`."""
        keys = self.spec.info_keys
        extras = {name: info[name] for name in keys if name != masks.KEY}
        return extras | ({masks.KEY: masks.read(info, self.spec, self.num_envs)} if masks.KEY in keys else {})

    def tick(self, agent_steps: int) -> tuple[Step, list[Episode]]:
        """Steps every environment once; returns that step (leaves [L,...], all planes), and the episodes that it ended.

        The step is not kept: this is for playing without collecting. `advance` also adds the step to the unroll.
        """
        step = self._decide(agent_steps)
        return step, self._arrive(step, self.env.step(self.chosen.to_env(step.action)))

    def _decide(self, agent_steps: int) -> Step:
        """The current steps, leaves [L,...], with the actions that the agent chooses."""
        mode = Mode(self.explore, agent_steps, self.rng, *self.place)
        seen: Step = self.crossing.to_device(tree_map(lambda leaf: leaf[None], self.current_step))  # [1,L,...]
        with inference(self.device, self.bf16):
            action, self.state, extras = act(self.agent, self.net, seen, self.state, mode)
        action, extras = self.crossing.to_host((action, extras))
        step = self.current_step._replace(
            action=action.astype(self.no_action.dtype, copy=False), extras={**masks.kept(self.current_step.extras), **extras}
        )
        self._refuse_not_finite(step, agent_steps)
        self._refuse_masked(step)
        return step

    def _arrive(self, step: Step, results: tuple[Any, ...]) -> list[Episode]:
        """Makes the environments' results for `step` the current step; returns the episodes that ended with `step`."""
        observation, reward, terminated, truncated, info = results
        episodes = self._score(step)
        self.current_step = Step(
            observation=self.observed.to_agent(observation),
            reward=reward,
            first=step.last,
            last=terminated | truncated,
            terminal=info.get("terminal", terminated),
            action=step.action,
            extras=self._extras(info),
        )
        return episodes

    def ready(self, steps: int) -> bool:
        """Whether the unroll that `take` would return has K = `steps` steps."""
        return len(self.pending) >= steps

    def diagnostics(self) -> dict[str, float]:
        """Scalars since the last call, other than those of episodes: none here."""
        return {}

    def advance(self, agent_steps: int) -> tuple[int, list[Episode]]:
        """Adds a step of every environment to the unroll that `take` returns.

        Returns the number of agent steps, which is L, and the episodes that ended.
        """
        step, self.under_way = self.under_way, None
        if step is None:
            step = self._decide_for_unroll(agent_steps)
            episodes = self._arrive(step, self.env.step(self.chosen.to_env(step.action)))
        else:
            episodes = self._arrive(step, self.env.step_wait())
        self.pending.append(self.compact(step))
        return self.num_envs, episodes

    def begin(self, agent_steps: int) -> None:
        """Starts the step of the next `advance` in the background, if the environments can do that; no unroll may have begun.

        Environments whose state can be saved are excluded, because a checkpoint cannot hold them in the middle of a step.
        """
        assert self.start is None
        if hasattr(self.env, "step_async") and not hasattr(self.env, "get_state"):
            self.under_way = self._decide_for_unroll(agent_steps)
            self.env.step_async(self.chosen.to_env(self.under_way.action))

    def _decide_for_unroll(self, agent_steps: int) -> Step:
        if self.start is None:
            before = np.moveaxis(self.current_step.observation[:, :-1], 1, 0) if self.stack > 1 else None
            self.start = Unroll(self.current_step, before, version=self.version)
        self.starts.mark(self.current_step.first, self.state)
        return self._decide(agent_steps)

    def take(self) -> Unroll:
        """The unroll of all steps since the last call, leaves [K,L,...]."""
        assert self.start is not None, "nothing was collected since the last unroll"
        starts, state = self.starts.take(self.state)
        unroll = self.start._replace(
            steps=stacked(self.pending), current_step=self.compact(self.current_step), starts=starts, state=state
        )
        self.pending, self.start = [], None
        if self.priorities is None:
            return unroll
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return unroll._replace(priority=self.priorities(self.net, unroll))

    def collect(self, steps: int, agent_steps: int) -> tuple[Unroll, list[Episode]]:
        """Collects an unroll of K = `steps` steps; returns it, and the episodes that ended. `agent_steps`: the count before it."""
        episodes = []
        for k in range(steps):
            episodes += self.advance(agent_steps + k * self.num_envs)[1]
        return self.take(), episodes

    def compact(self, record: Step) -> Step:
        """A step as an unroll holds it: only the newest plane of a frame stack."""
        return record._replace(observation=record.observation[:, -1]) if self.stack > 1 else record

    def _refuse_not_finite(self, step: Step, agent_steps: int) -> None:
        """RlsuiteError if a reward, an observation or an action is not finite; it names the first."""
        leaves = {
            "environment {} returned a reward": step.reward,
            "environment {} returned an observation": step.observation,
            "the agent chose for environment {}, whose observation is finite, an action": step.action,
        }
        for what, leaf in leaves.items():
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                bad = int(np.flatnonzero(~np.isfinite(leaf).reshape(self.num_envs, -1).all(1))[0])
                seen = " ".join(str(leaf[bad]).split())
                raise RlsuiteError(f"{what.format(bad)} that is not finite, at agent step {agent_steps}: {seen}")

    def _refuse_masked(self, step: Step) -> None:
        """RlsuiteError if the agent chose an action that its environment masks; it names the first."""
        if (mask := step.extras.get(masks.KEY)) is None:
            return
        allowed = mask[np.arange(self.num_envs), step.action] | ~mask.any(1) | step.last  # [L]
        if not allowed.all():
            bad = int(np.flatnonzero(~allowed)[0])
            raise RlsuiteError(
                f"action {step.action[bad]} was chosen for environment {bad}, which allows {np.flatnonzero(mask[bad]).tolist()} "
                "(info['action_mask']): an agent must choose among rlsuite.core.masks.masked values; with a Gymnasium environment "
                "env.action_masks=false ignores masks"
            )

    def _score(self, step: Step) -> list[Episode]:
        self.returns += step.reward
        self.lengths += ~step.first  # an episode of n actions has n + 1 steps
        ended = np.flatnonzero(step.last)
        episodes = [Episode(float(self.returns[i]), int(self.lengths[i]), int(i)) for i in ended]
        self.returns[ended] = 0
        self.lengths[ended] = 0
        return episodes

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint. `env` is None if the environment cannot be saved; restoring then begins new episodes.

        A step that is under way in the background is not included.
        """
        get = getattr(self.env, "get_state", None)
        return {
            "env": get() if get else None,
            "current_step": self.current_step._asdict(),
            "returns": self.returns,
            "lengths": self.lengths,
            "rng": self.rng.get_state(),
            "state": self.state,
            "pending": [step._asdict() for step in self.pending],
            "start": {"before": self.start.before} if self.start and self.pending else None,
            "starts": self.starts.state_dict(),
            "version": self.version if self.start is None else self.start.version,
            "priorities": None if self.priorities is None else self.priorities.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool:
        """Restores what `state_dict` returned. True if the episodes continue, False if new ones begin, seeded with `reseed`."""
        if self.under_way is not None:
            self.env.step_wait()
            self.under_way = None
        self.rng.set_state(state["rng"])
        self.version = state["version"]
        if self.priorities is not None:
            self.priorities.load_state_dict(state["priorities"])
        self.pending = [Step(**step) for step in state["pending"]]
        start = state["start"]
        self.start = start and Unroll(self.current_step, start["before"], version=self.version)
        self.starts.load_state_dict(state["starts"])
        if not self.pending:  # drops the mark of a step that was under way
            self.starts.drop()
        if state["env"] is None or not hasattr(self.env, "set_state"):
            self.current_step = self._first(*self.env.reset(seed=reseed))
            self.state = self._initial_state()
            self.starts.restart()
            self.returns[:], self.lengths[:] = 0, 0
            if self.priorities is not None and not self.pending:
                self.priorities.end_streams()
            if self.pending:  # the newest step of every environment becomes the last of its episode, as at a time limit
                self.pending[-1] = self.pending[-1]._replace(last=self.pending[-1].last | True)
            return False
        self.env.set_state(state["env"])
        self.current_step = Step(**state["current_step"])
        self.returns, self.lengths = state["returns"].copy(), state["lengths"].copy()
        self.state = tree_map(lambda leaf: leaf.to(self.device), as_tuples(state["state"]))
        return True


def stacked(records: list[Step]) -> Step:
    """Stacks K steps with leaves [L,...] to leaves [K,L,...]."""
    steps: Step = tree_zip(lambda *leaves: leaves[0][None] if len(leaves) == 1 else np.stack(leaves), *records)
    return steps
