"""The step that all parts exchange, and its two containers: unrolls from collectors, trajectories from stores.

Shapes: T time, B batch, K steps and L environments of an unroll, S planes of a frame stack.

An environment is a flat stream of `Step`s: what the agent saw and did at time t. Vector environments run with Gymnasium's
NEXT_STEP autoreset, so the final observation of an episode is an ordinary step with `last`, whose action is ignored, and the next
step is `first`. A reward arrives WITH the observation that it led to.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete
from pydantic import TypeAdapter
from torch import Tensor

from rlsuite.core import spaces

Tree = Any  # a tensor or an array, or a nested (named) tuple or dict of them
State = Any  # the recurrent state of a net, a tuple of leaves [B,...]; () for a feed-forward one


class Step(NamedTuple):
    """What an agent saw and did at time t. Leaves are arrays or tensors with the same leading axes: [L], [K,L] or [T,B]."""

    observation: Any  # [..., *shape]: all S planes for acting and learning, the newest plane in an `Unroll`, `Planes` from a store
    reward: Any  # f32, from the action at t-1; raw, never clipped
    first: Any  # bool: first step of an episode
    last: Any  # bool: final observation of an episode
    terminal: Any  # bool: the value of this state is 0 (game over, or a life lost if the env signals it), not a time limit
    action: Any  # i64 (or f32 [..., A] where actions are continuous), chosen at this observation; ignored where last
    extras: dict[str, Any]  # further arrays that the agent's loss needs, such as log-probabilities


class Unroll(NamedTuple):
    """A contiguous piece of the streams of L environments, as collectors send it to stores: single planes, each of them once.

    `before` and `current_step` are for stores that use an unroll on its own, without its neighbours.
    """

    steps: Step  # [K,L,...]
    before: Any = None  # [S-1,L,...]: the older planes of the stack at the first step; None if nothing is stacked
    current_step: Step | None = None  # [L,...]: the step after the last, not yet acted on; the next unroll begins with it
    starts: Any = None  # bool [K,L]: where sequences start; None: at every step
    state: State = ()  # leaves [M,...]: the recurrent states before the M steps that `starts` marks, step by step
    version: int = 0  # learner steps of the weights that acted
    priority: Any = None  # f64 [K',L] for the sequences that this unroll completes; None: the store chooses them


class Planes(NamedTuple):
    """The frame stacks of a trajectory as stores give them: every plane once. See `rlsuite.replay.stacks`."""

    planes: Any  # [S-1+T,B,H,W]; those before step 0 are blank where they are of an earlier episode


class Trajectory(NamedTuple):
    """A batch of sequences from a store: steps with leaves [T,B,...], and the recurrent state at the first one, [B,...].

    A sparse trajectory holds observations only at step 0 and at the bootstrap step, [2,B,...]: n-step methods need no others.
    """

    steps: Step
    state: State

    def start(self) -> Step:
        """Step 0, leaves [1,B,...]."""
        start: Step = tree_map(lambda leaf: leaf[:1], self.steps)
        return start

    def bootstrap(self) -> Step:
        """The step that an n-step target bootstraps from, leaves [1,B,...]: the first `last` after step 0, else step T-1."""
        index = bootstrap_index(self.steps.last)  # [B]
        rows = torch.arange(index.shape[0], device=index.device)
        steps = self.sparse().steps
        picked: Step = tree_map(lambda leaf: leaf[index, rows].unsqueeze(0), steps._replace(observation=()))
        return picked._replace(observation=steps.observation[-1:])

    def sparse(self) -> "Trajectory":
        """The trajectory with observations only at step 0 and at the bootstrap step."""
        observation = self.steps.observation
        if observation.shape[0] == 2:
            return self
        end = bootstrap_index(self.steps.last)  # [B]
        at = torch.stack([torch.zeros_like(end), end]) * len(end) + torch.arange(len(end), device=end.device)  # [2,B]
        # Whole rows of memory are copied if the channels of images are where they lie in memory: last.
        images = observation.ndim == 5
        rows = (observation.movedim(2, -1) if images else observation).flatten(0, 1)  # [T*B,...]
        picked = rows.index_select(0, at.flatten()).unflatten(0, at.shape)
        return self._replace(steps=self.steps._replace(observation=picked.movedim(-1, 2) if images else picked))


class TransitionBatch(NamedTuple):
    """The T-1 transitions between the T steps of a sequence: leaves [T-1,B]."""

    action: Tensor  # i64, or f32 [T-1,B,*shape] where actions are continuous
    reward: Tensor  # f32
    discount: Tensor  # f32: γ, or 0 into a terminal state
    valid: Tensor  # bool: False from a final observation to the first step of the next episode


class EnvSpec(NamedTuple):
    """The facts about an environment that nets, stores and agents need: observations and actions in the agent's form.

    `observation_space` and `action_space` are the environment's own; `translations` converts between the two.
    """

    observation_shape: tuple[int, ...]  # (S,H,W) for stacked planes, () for a discrete state
    observation_dtype: str
    num_actions: int  # 0: actions are continuous
    num_states: int | None  # of discrete observations; None: observations are arrays
    stack: int  # planes stacked on the first axis; 1: nothing is stacked
    frames_per_step: int  # emulator frames per agent step
    action_shape: tuple[int, ...] = ()  # (A,) where actions are continuous
    action_dtype: str = "int64"
    game: str | None = None  # name of the board game, as `make_game` takes it; None: it is not one
    more_games: tuple[str, ...] = ()  # names of board games of other sizes that self-play plays, too
    has_pictures: bool = False  # whether its episodes can be recorded as videos
    info_keys: tuple[str, ...] = ()  # keys of `info` that are passed on in `Step.extras`
    observation_space: spaces.Plain | None = None  # the environment's own; None: the same as the agent's
    action_space: spaces.Plain | None = None  # likewise
    picture: tuple[int, ...] | None = None  # (C,H,W) if observations are the bytes of a picture, then those of an f32 vector


# If these fields of two specs agree, a net trained with one can be used with the other.
SPACES = (
    "observation_shape",
    "observation_dtype",
    "num_actions",
    "num_states",
    "stack",
    "action_shape",
    "observation_space",
    "action_space",
)


def describe(env: Any) -> EnvSpec:
    """The spec of a Gymnasium VectorEnv, whose `metadata` may hold `frame_stack`, `frames_per_step`, `game` and `info_keys`.

    UsageError for an observation or action space that is not supported.
    """
    stack = int(env.metadata.get("frame_stack", 1))
    observed = spaces.observations(env.single_observation_space, stack)
    chosen = spaces.actions(env.single_action_space)
    space, actions = observed.space, chosen.space
    assert space.shape is not None
    assert actions.shape is not None
    return EnvSpec(
        observation_shape=tuple(space.shape),
        observation_dtype=np.dtype(space.dtype).name,
        num_actions=int(actions.n) if isinstance(actions, Discrete) else 0,
        num_states=int(space.n) if isinstance(space, Discrete) else None,
        stack=stack,
        frames_per_step=int(env.metadata.get("frames_per_step", 1)),
        action_shape=tuple(actions.shape),
        action_dtype=np.dtype(actions.dtype).name,
        game=env.metadata.get("game"),
        more_games=tuple(env.metadata.get("more_games", ())),
        has_pictures="rgb_array" in env.metadata.get("render_modes", ()),
        info_keys=tuple(env.metadata.get("info_keys", ())),
        observation_space=None if observed.same else spaces.plain(env.single_observation_space),
        action_space=None if chosen.same else spaces.plain(env.single_action_space),
        picture=observed.picture,
    )


def translations(spec: EnvSpec) -> tuple[spaces.Translation, spaces.Translation]:
    """The translations of observations and of actions between an environment and its agents. ValueError for a damaged spec."""
    observed = chosen = spaces.SAME
    if spec.num_states is not None and spec.observation_space is None:
        observed = spaces.observations(Discrete(spec.num_states))  # which refuses others
    if spec.observation_space is not None:
        observed = spaces.observations(spaces.from_plain(spec.observation_space), spec.stack)
    if spec.action_space is not None:
        chosen = spaces.actions(spaces.from_plain(spec.action_space))
    return observed, chosen


def other_spaces(ours: EnvSpec, theirs: EnvSpec) -> str | None:
    """The first of the `SPACES` in which two specs differ, as "field = theirs, not ours"; None if they agree."""
    for name in SPACES:
        if (one := getattr(ours, name)) != (other := getattr(theirs, name)):
            return f"{name} = {other}, not {one}"
    return None


def spec_of(fields: dict[str, Any]) -> EnvSpec:
    """A spec from the fields of one that went through JSON. ValueError for anything else."""
    spec = TypeAdapter(EnvSpec).validate_python({name: as_tuples(value) for name, value in fields.items()}, strict=True)
    translations(spec)
    return spec


def transitions(steps: Step, discount: float) -> TransitionBatch:
    """The T-1 transitions between T steps, leaves [T,B,...]; `discount` is γ. No other function turns steps into transitions."""
    return TransitionBatch(
        action=steps.action[:-1],
        reward=steps.reward[1:],
        discount=discount * (~steps.terminal[1:]).to(steps.reward.dtype),
        valid=~steps.last[:-1],
    )


def bootstrap_index(last: Any) -> Any:
    """last [T,B] bool, a tensor or an array -> [B] i64: the first t >= 1 where the episode ends, else T-1."""
    return (1 + (~last[1:]).cumprod(0).sum(0)).clip(max=len(last) - 1)


def tree_map(fn: Callable[[Any], Any], tree: Tree) -> Tree:
    """Applies `fn` to every leaf of nested (named) tuples and dicts, keeping their types."""
    if isinstance(tree, dict):
        return {key: tree_map(fn, value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        mapped = [tree_map(fn, value) for value in tree]
        return type(tree)(*mapped) if hasattr(tree, "_fields") else tuple(mapped)
    return fn(tree)


def tree_zip(fn: Callable[..., Any], *trees: Tree) -> Tree:
    """Applies `fn` to the corresponding leaves of trees with the same structure."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: tree_zip(fn, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple):
        mapped = [tree_zip(fn, *same) for same in zip(*trees, strict=True)]
        return type(first)(*mapped) if hasattr(first, "_fields") else tuple(mapped)
    return fn(*trees)


def part_of(steps: Step, rows: Any) -> Step:
    """Steps with every leaf indexed as `leaf[rows]`."""
    part: Step = tree_map(lambda leaf: leaf[rows], steps)
    return part


def flatten_time(trajectory: Trajectory) -> Trajectory:
    """Turns every step into a sequence of its own: leaves [T,B,...] -> [1,T*B,...]. The trajectory must have no recurrent state."""
    flat: Trajectory = tree_map(lambda leaf: leaf.flatten(0, 1).unsqueeze(0), trajectory)
    return flat


def take_columns(trajectory: Trajectory, rows: Tensor) -> Trajectory:
    """The sequences `rows` [B'] i64 of a trajectory [T,B,...], with their states; stacked planes stay channels_last in memory."""

    def take(leaf: Tensor) -> Tensor:
        if leaf.dim() == 5:  # [T,B,S,H,W], in memory [T,B,H,W,S]
            return leaf.movedim(2, -1).index_select(1, rows).movedim(-1, 2)
        return leaf.index_select(1, rows)

    state = tree_map(lambda leaf: leaf.index_select(0, rows), trajectory.state)
    return Trajectory(tree_map(take, trajectory.steps), state)


def to_tensors(tree: Tree, device: torch.device) -> Tree:
    """A tree of NumPy arrays as tensors on `device`; on the CPU they share memory."""
    return tree_map(lambda leaf: torch.from_numpy(leaf).to(device, non_blocking=True), tree)


def as_tuples(tree: Any) -> Any:
    """A tree with its lists turned back into tuples, which files store as lists."""
    return tuple(as_tuples(item) for item in tree) if isinstance(tree, list | tuple) else tree
