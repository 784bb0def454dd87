"""The collector against a naive loop over single scripted episodes, its scores, and its exact resume."""

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.acting.collector import Collector, stacked
from rlsuite.acting.crossing import Crossing
from rlsuite.agents.dqn import DQN
from rlsuite.agents.value_based import ValueConfig
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Actor, Extra, Mode, Sequences, Transitions
from rlsuite.core.errors import RlsuiteError
from rlsuite.core.types import State, Step, describe
from rlsuite.envs import classic

# An environment's episodes: (actions until the end, "over" or "truncated"), repeated. Two episodes of one action follow each other.
SCRIPT = [[(3, "over"), (2, "truncated"), (4, "over")], [(1, "truncated"), (1, "over"), (6, "truncated")], [(5, "over")]]
ACTIONS = 3


def picture(env_index: int, episode: int, t: int) -> float:
    return float(1000 * env_index + 20 * episode + t)


def payment(env_index: int, episode: int, t: int, action: int) -> float:
    """The reward for arriving at step t >= 1 by `action`."""
    return 0.25 * t + 10 * action - env_index + episode


class Scripted(VectorEnv[Any, Any, Any]):
    """NEXT_STEP autoreset over `SCRIPT`; `planes` > 1 stacks that many, `lives` signals a terminal every second step."""

    def __init__(self, planes: int = 1, lives: bool = False, poison: int | None = None):
        self.num_envs, self.planes, self.lives, self.poison = len(SCRIPT), planes, lives, poison
        shape = (planes, 1, 1) if planes > 1 else (1,)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(ACTIONS)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "frame_stack": planes}
        self.ticks = 0
        self.seeds: list[Any] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self.seeds.append(seed)
        self.episode, self.t = np.zeros(self.num_envs, int), np.zeros(self.num_envs, int)
        self.ended = np.zeros(self.num_envs, bool)
        return self._see(), {}

    def step(self, actions: NDArray[np.int64]) -> Any:
        assert actions.shape == (self.num_envs,)
        assert actions.dtype == np.int64
        self.ticks += 1
        reward = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        for env_index, episodes in enumerate(SCRIPT):
            if self.ended[env_index]:
                self.episode[env_index] += 1
                self.t[env_index] = 0
                continue
            self.t[env_index] += 1
            length, how = episodes[self.episode[env_index] % len(episodes)]
            reward[env_index] = payment(env_index, int(self.episode[env_index]), int(self.t[env_index]), int(actions[env_index]))
            terminated[env_index] = self.t[env_index] == length and how == "over"
            truncated[env_index] = self.t[env_index] == length and how == "truncated"
        self.ended = terminated | truncated
        if self.poison == self.ticks:
            reward[1] = np.nan
        info = {"terminal": terminated | ((self.t % 2 == 1) & (self.t > 0))} if self.lives else {}
        return self._see(), reward, terminated, truncated, info

    def _see(self) -> NDArray[np.float32]:
        newest = [picture(env_index, int(e), int(t)) for env_index, (e, t) in enumerate(zip(self.episode, self.t, strict=True))]
        if self.planes == 1:
            return np.array(newest, np.float32)[:, None]
        stack = np.zeros((self.num_envs, self.planes, 1, 1), np.float32)
        for env_index in range(self.num_envs):
            for age in range(min(self.planes, int(self.t[env_index]) + 1)):
                stack[env_index, self.planes - 1 - age] = newest[env_index] - age
        return stack


class Background(Scripted):
    """Steps in the background, as far as a caller can tell: what is returned is what was asked for before."""

    def step_async(self, actions: NDArray[np.int64]) -> None:
        self.arriving = super().step(actions.copy())

    def step_wait(self) -> Any:
        arrived, self.arriving = self.arriving, None
        assert arrived is not None
        return arrived


class Counting(Actor):
    """Actions depend on the observation; extras and state show what was passed around."""

    def __init__(self) -> None:
        self.modes: list[Mode] = []
        self.seen: list[Step] = []

    sequence = Transitions(1)

    def initial_state(self, batch: int) -> State:
        return (torch.zeros(batch),)

    def act(self, net: nn.Module, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        self.modes.append(mode)
        self.seen.append(step)
        newest = step.observation[0].flatten(1)[:, -1]  # [B]
        action = newest.long() % ACTIONS
        return action, (state[0] + 1,), {"code": newest * 2, "count": state[0].clone(), "pair": torch.stack([newest, newest], 1)}


def collector(env: Any, agent: Any = None, **more: Any) -> Collector:
    return Collector(env, agent or Counting(), nn.Identity(), seed=3, **more)


def naive(ticks: int, lives: bool = False) -> tuple[list[list[dict[str, Any]]], list[tuple[int, float, int, int]]]:
    """Every environment by itself, one episode at a time.

    Returns steps by environment and tick, and episodes (tick, return, length, environment).
    """
    table, scores = [], []
    for env_index, episodes in enumerate(SCRIPT):
        rows: list[dict[str, Any]] = []
        episode = 0
        while len(rows) < ticks:
            length, how = episodes[episode % len(episodes)]
            reward, total = 0.0, 0.0
            for t in range(length + 1):
                seen = picture(env_index, episode, t)
                end = t == length
                terminal = (end and how == "over") or (lives and t % 2 == 1)
                rows.append({"observation": seen, "reward": reward, "first": t == 0, "last": end, "terminal": terminal})
                rows[-1]["action"] = int(seen) % ACTIONS
                total += reward
                if end:
                    scores.append((len(rows) - 1, total, length, env_index))
                reward = payment(env_index, episode, t + 1, rows[-1]["action"])
            episode += 1
        table.append(rows[:ticks])
    return table, sorted((s for s in scores if s[0] < ticks), key=lambda s: (s[0], s[3]))


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_in_the_background_give_the_same_unrolls(steps: int, planes: int) -> None:
    """What the agent does between `begin` and `advance`, such as another unroll's updates, changes nothing."""
    plain, background = collector(Scripted(planes)), collector(Background(planes))
    for k in range(20):
        expected = plain.collect(steps, k)
        background.begin(k)
        assert background.under_way is not None
        found = background.collect(steps, k)
        assert equal(expected[0].steps, found[0].steps)
        assert expected[1] == found[1]
        np.testing.assert_equal(expected[0].starts, found[0].starts)
        np.testing.assert_equal(expected[0].before, found[0].before)
        assert [mode.agent_steps for mode in background.agent.modes] == [mode.agent_steps for mode in plain.agent.modes]


@pytest.mark.parametrize("planes", [1, 3])
def test_kept_memory_on_the_way_to_a_device_gives_the_same_unrolls(planes: int) -> None:
    plain, buffered = collector(Background(planes)), collector(Background(planes))
    buffered.crossing = Crossing(torch.device("cpu"), buffered=True)
    for k in range(10):
        expected, found = plain.collect(4, k), buffered.collect(4, k)
        assert equal(expected[0].steps, found[0].steps)
        assert expected[1] == found[1]


def test_environments_that_step_only_on_demand_or_can_be_saved_do_so_in_advance() -> None:
    for env in (Scripted(), cartpole(1).env):
        one = collector(env) if isinstance(env, Scripted) else cartpole(1)
        one.begin(0)
        assert one.under_way is None
        assert len(one.collect(2, 0)[0].steps.reward) == 2


def test_a_step_under_way_is_not_saved_and_ends_when_another_state_is_loaded() -> None:
    one = collector(Background())
    one.collect(5, 0)
    before = copy.deepcopy(one.state_dict())
    one.begin(5)
    state = copy.deepcopy(one.state_dict())
    assert state["start"] is None
    assert state["pending"] == before["pending"] == []
    for name in ("observation", "reward", "first", "last"):
        np.testing.assert_array_equal(state["current_step"][name], before["current_step"][name])
    for used in (one, collector(Background())):
        assert not used.load_state_dict(state, reseed=41)
        unroll = used.collect(10, 5)[0]
        assert unroll.steps.first[0].all()
        assert unroll.steps.reward.shape == (10, 3)
        assert not unroll.steps.last[0].any()


def test_marks_of_a_step_under_way_do_not_come_back() -> None:
    class Strided(Counting):
        sequence = Sequences(burn_in=0, unroll=2, n=1, stride=2, state=(Extra("h", (), "float32"),))  # type: ignore[assignment]

    one = collector(Background(), Strided())
    one.collect(4, 0)
    one.begin(4)
    other = collector(Background(), Strided())
    other.load_state_dict(copy.deepcopy(one.state_dict()), reseed=41)
    unroll = other.collect(4, 4)[0]
    assert unroll.starts is not None
    np.testing.assert_array_equal(unroll.starts[:, 0], [True, False, True, False])
    assert unroll.state[0].shape == (6,)


@pytest.mark.parametrize("lives", [False, True])
@pytest.mark.parametrize("sizes", [[1] * 40, [40], [3, 1, 7, 13, 16]])
def test_streams_equal_a_naive_loop(sizes: list[int], lives: bool) -> None:
    """Any lengths of unrolls give the same streams, the same scores, and no tick more."""
    env = Scripted(lives=lives)
    roll = collector(env)
    unrolls, episodes = [], []
    for k in sizes:
        unroll, ended = roll.collect(k, 0)
        assert unroll.steps.reward.shape == (k, 3)
        assert unroll.steps.observation.shape == (k, 3, 1)
        unrolls.append(unroll.steps)
        episodes += ended
    assert env.ticks == sum(sizes)
    table, scores = naive(sum(sizes), lives)
    for name, dtype in [("reward", "float32"), ("first", "bool"), ("last", "bool"), ("terminal", "bool"), ("action", "int64")]:
        got = np.concatenate([getattr(steps, name) for steps in unrolls])
        assert got.dtype == np.dtype(dtype)
        for env_index, rows in enumerate(table):
            np.testing.assert_allclose(got[:, env_index], [row[name] for row in rows], err_msg=f"{name} of environment {env_index}")
    seen = np.concatenate([steps.observation for steps in unrolls])
    np.testing.assert_array_equal(seen[..., 0], np.array([[row["observation"] for row in rows] for rows in table]).T)
    assert [(e.length, e.env_index) for e in episodes] == [s[2:] for s in scores]
    np.testing.assert_allclose([e.episodic_return for e in episodes], [s[1] for s in scores])
    assert len(episodes) > 20


def test_a_truncation_is_last_but_not_terminal_and_the_action_before_the_end_counts() -> None:
    """Environment 1 by hand: truncated after one action, then over after one action."""
    steps = collector(Scripted()).collect(5, 0)[0].steps
    assert steps.first[:, 1].tolist() == [True, False, True, False, True]
    assert steps.last[:, 1].tolist() == [False, True, False, True, False]
    assert steps.terminal[:, 1].tolist() == [False, False, False, True, False]
    # Action at 1000 is 1, at 1020 it is 0; the reward of the first step of an episode is always 0.
    assert steps.action[[0, 2], 1].tolist() == [1, 0]
    assert steps.reward[:, 1].tolist() == [0.0, 0.25 + 10 - 1 + 0, 0.0, 0.25 + 0 - 1 + 1, 0.0]


def test_extras_travel_with_the_step_they_belong_to() -> None:
    steps = collector(Scripted()).collect(6, 0)[0].steps
    assert set(steps.extras) == {"code", "count", "pair"}
    np.testing.assert_array_equal(steps.extras["code"], steps.observation[..., 0] * 2)
    np.testing.assert_array_equal(steps.extras["count"], np.arange(6)[:, None].repeat(3, 1))  # the state is carried on
    assert steps.extras["pair"].shape == (6, 3, 2)


def test_an_unroll_holds_only_the_newest_plane_but_the_agent_sees_the_stack() -> None:
    agent = Counting()
    steps = collector(Scripted(planes=3), agent).collect(4, 0)[0].steps
    assert steps.observation.shape == (4, 3, 1, 1)
    assert steps.observation[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert agent.seen[3].observation.shape == (1, 3, 3, 1, 1)
    assert agent.seen[3].observation[0, 0].flatten().tolist() == [1, 2, 3]
    assert agent.seen[1].first.tolist() == [[False, False, False]]
    assert agent.seen[2].first.tolist() == [[False, True, False]]


def test_act_gets_the_clock_the_mode_and_one_generator() -> None:
    agent = Counting()
    roll = collector(Scripted(), agent)
    roll.collect(3, 100)
    assert [mode.agent_steps for mode in agent.modes] == [100, 103, 106]  # three environments a tick
    assert all(mode.explore for mode in agent.modes)
    assert all(mode.rng is roll.rng for mode in agent.modes)
    quiet = Counting()
    collector(Scripted(), quiet, explore=False).tick(0)
    assert not quiet.modes[0].explore


def test_acting_keeps_no_graph_and_autocasts_only_if_asked() -> None:
    seen: list[tuple[bool, bool]] = []

    class Probe(Counting):
        def act(self, net: nn.Module, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
            seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
            return super().act(net, step, state, mode)

    collector(Scripted(), Probe()).tick(0)
    collector(Scripted(), Probe(), bf16=True).tick(0)
    assert seen == [(False, False), (False, True)]


def test_the_environment_is_seeded_once() -> None:
    env = Scripted()
    collector(env).collect(20, 0)
    assert env.seeds == [3]


def test_an_observation_that_is_not_finite_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    env, see = Scripted(), Scripted._see
    monkeypatch.setattr(env, "_see", lambda: np.where(env.ticks == 3, np.nan, see(env)).astype(np.float32))
    roll = collector(env)
    for _ in range(3):
        roll.tick(0)
    with pytest.raises(RlsuiteError, match="environment 0 returned an observation that is not finite, at agent step 12: "):
        roll.tick(12)


@pytest.mark.parametrize("tick", [1, 4])
def test_a_reward_that_is_not_finite_stops_everything(tick: int) -> None:
    roll = collector(Scripted(poison=tick))
    for _ in range(tick):
        roll.tick(0)
    with pytest.raises(RlsuiteError, match="environment 1 returned a reward that is not finite"):
        roll.tick(0)


def test_an_action_that_is_not_finite_is_not_blamed_on_the_environment() -> None:
    roll = collector(Scripted())
    action = np.zeros((roll.num_envs, 2), np.float32)
    action[1] = np.inf
    with pytest.raises(
        RlsuiteError, match=r"chose for environment 1, .* an action that is not finite, at agent step 7: \[inf inf\]$"
    ):
        roll._refuse_not_finite(roll.current_step._replace(action=action), 7)


def test_stacked_keeps_every_leaf() -> None:
    roll = collector(Scripted())
    parts = [roll.tick(0)[0] for _ in range(3)]
    steps = stacked(parts)
    for k, part in enumerate(parts):
        for name in Step._fields[:-1]:
            np.testing.assert_array_equal(getattr(steps, name)[k], getattr(part, name))
        for name, value in part.extras.items():
            np.testing.assert_array_equal(steps.extras[name][k], value)
    one = stacked(parts[:1])
    np.testing.assert_array_equal(one.reward, parts[0].reward[None])
    assert one.extras["pair"].shape == (1, 3, 2)


def cartpole(seed: int) -> Collector:
    env = classic.make(classic.Config(id="CartPole-v1", kwargs={"max_episode_steps": 20}), 3)
    agent = DQN(ValueConfig(name="dqn", epsilon_start=0.3, epsilon_end=0.3), NetConfig(torso="mlp", hidden=8), describe(env))
    torch.manual_seed(0)
    return Collector(env, agent, agent.make_net(), seed=seed)


def equal(left: Step, right: Step) -> bool:
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(left[:-1], right[:-1], strict=True))


@pytest.mark.parametrize("ticks", [0, 1, 10, 11, 12, 40])
def test_a_resumed_collector_continues_bit_for_bit(ticks: int) -> None:
    """Actions explore, so this covers the generator; it covers the scores of running episodes too."""
    one = cartpole(1)
    for tick in range(ticks):
        one.tick(tick)
    state = copy.deepcopy(one.state_dict())
    state["state"] = list(state["state"])  # files keep no tuples
    expected, scores = one.collect(60, 0)
    other = cartpole(99)
    other.tick(0)
    assert other.load_state_dict(state, reseed=5)
    assert other.state == ()
    unroll, ended = other.collect(60, 0)
    assert equal(unroll.steps, expected.steps)
    assert ended == scores
    assert len(scores) > 5


def test_cartpole_with_another_seed_is_not_the_same() -> None:
    """The test above can fail: a collector with another seed collects other steps."""
    assert not equal(cartpole(1).collect(60, 0)[0].steps, cartpole(99).collect(60, 0)[0].steps)


def test_what_cannot_be_restored_begins_new_episodes() -> None:
    one = collector(Scripted())
    one.collect(5, 0)
    state = copy.deepcopy(one.state_dict())
    assert state["env"] is None
    env = Scripted()
    other = collector(env)
    assert not other.load_state_dict(state, reseed=41)
    assert env.seeds == [3, 41]
    assert torch.equal(other.rng.get_state(), state["rng"])
    unroll, episodes = other.collect(10, 0)
    assert unroll.steps.first[0].all()
    assert (unroll.steps.reward[0] == 0).all()
    assert not unroll.steps.last[0].any()
    scores = naive(10)[1]
    assert [(e.length, e.env_index) for e in episodes] == [s[2:] for s in scores]
    np.testing.assert_allclose([e.episodic_return for e in episodes], [s[1] for s in scores])


def test_new_episodes_are_scored_from_zero_even_in_a_used_collector() -> None:
    one = collector(Scripted())
    state = copy.deepcopy(one.state_dict())
    one.collect(3, 0)
    assert not one.load_state_dict(state, reseed=1)
    episodes = one.collect(10, 0)[1]
    scores = naive(10)[1]
    assert [(e.length, e.env_index) for e in episodes] == [s[2:] for s in scores]
    np.testing.assert_allclose([e.episodic_return for e in episodes], [s[1] for s in scores])


def test_new_streams_do_not_start_from_the_recurrent_state_of_the_old_ones() -> None:
    one = collector(Scripted())
    one.collect(3, 0)
    state = copy.deepcopy(one.state_dict())
    assert state["state"][0].tolist() == [3, 3, 3]
    other = collector(Scripted())
    other.collect(2, 0)
    other.load_state_dict(state, reseed=1)
    assert other.collect(1, 0)[0].steps.extras["count"].tolist() == [[0, 0, 0]]
