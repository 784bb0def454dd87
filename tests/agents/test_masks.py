"""Action masks: what agents choose, what their targets bootstrap from, and what they learn where most actions are masked."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from helpers import combinations
from torch import Tensor, nn

import rlsuite
from rlsuite.acting.collector import Collector
from rlsuite.agents.dqn import DQN
from rlsuite.agents.policy_gradient import entropy, log_prob, sample
from rlsuite.agents.q_learning import QLearning
from rlsuite.agents.r2d2 import R2D2, R2D2Config
from rlsuite.agents.value_based import ValueConfig, epsilon_greedy
from rlsuite.config.loader import resolve
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Mode
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.masks import FORBIDDEN, KEY, masked
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, describe
from rlsuite.factories import build, make_agent, make_env, make_replay
from rlsuite.nets.policy_net import PolicyOutput

ACTIONS = 4
VALUE = ("dqn", "c51", "qrdqn", "iqn", "r2d2")
POLICY = ("reinforce", "a2c", "ppo", "impala")
ON_POLICY = (*POLICY, "pqn")
SPEC = EnvSpec((), "int64", ACTIONS, num_states=2, stack=1, frames_per_step=1, info_keys=(KEY,))


class Corner(gymnasium.Env[Any, Any]):
    """A walk to the far corner of a grid, whose mask forbids to leave it; whoever tries ends the episode and is counted."""

    metadata = {"render_modes": []}  # noqa: RUF012
    MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
    offences = 0

    def __init__(self, size: int = 3, in_observation: bool = False, render_mode: str | None = None):
        self.size, self.in_observation = size, in_observation
        self.action_space = gymnasium.spaces.Discrete(ACTIONS, start=3)
        place = gymnasium.spaces.Box(0, 1, (2 * size,), np.float32)
        mask = gymnasium.spaces.MultiBinary(ACTIONS)
        self.observation_space = gymnasium.spaces.Dict(action_mask=mask, place=place) if in_observation else place
        self.at = np.zeros(2, np.int64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = self.np_random.integers(self.size, size=2)
        self.at[0] = min(self.at[0], self.size - 2)
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        new = self.at + self.MOVES[action - 3]
        offence = bool((new < 0).any() or (new >= self.size).any())
        Corner.offences += offence
        self.at = self.at if offence else new
        there = bool((self.at == self.size - 1).all())
        observation, info = self._seen()
        return observation, 1.0 if there else -0.05, there or offence, False, info

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        new = self.at + self.MOVES
        mask = ((new >= 0) & (new < self.size)).all(1).astype(np.int8)
        place = np.eye(self.size, dtype=np.float32)[self.at].reshape(-1)
        return ({KEY: mask, "place": place}, {}) if self.in_observation else (place, {KEY: mask})


@pytest.fixture(autouse=True)
def _registered() -> None:
    Corner.offences = 0
    if "Corner-v0" not in gymnasium.registry:
        gymnasium.register("Corner-v0", Corner, max_episode_steps=30)


def changes(name: str, **more: Any) -> dict[str, Any]:
    """Overrides for short runs of an agent in the masked grid."""
    base: dict[str, Any] = {
        "env.id": "Corner-v0",
        "env.num_envs": 4,
        "run.threads": 1,
        "net.hidden": 16,
        "agent.name": name,
        **more,
    }
    return base | ({"agent.unroll": 4, "agent.burn_in": 2, "agent.stride": 2, "agent.n_steps": 2} if name == "r2d2" else {})


R2D2_CONFIG = """
agent: {name: r2d2, epsilon_ladder: false, epsilon_decay_agent_steps: 2000, epsilon_end: 0.05, reward_clip: null}
env: {id: CartPole-v1, num_envs: 8}
net: {torso: mlp, hidden: 32, memory: lstm, memory_size: 16}
replay: {capacity_agent_steps: 5000, min_agent_steps: 500, samples_per_insert: 8}
learner: {batch_size: 32, learning_rate: 1e-3, optimizer_epsilon: 1e-8, target_period_learner_steps: 50}
run: {collect_agent_steps: 4}
"""


def base_of(name: str, folder: Path) -> str:
    """A config of a like agent, its own in `folder`."""
    if name != "r2d2":
        return f"classic/{name}" if name in ON_POLICY else "classic/dqn"
    (folder / "r2d2.yaml").write_text(R2D2_CONFIG)
    return str(folder / "r2d2.yaml")


def test_another_use_of_masks_is_refused_on_resume(tmp_path: Path) -> None:
    more = {"run.agent_steps": 400, "eval.episodes": 1, "eval.every_agent_steps": None, "eval.stop_at_return": None}
    rlsuite.train("classic/ppo", changes("ppo", **more), run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match=r"was trained where Corner-v0 reports action_mask in info, not nothing"):
        rlsuite.train(None, {"env.action_masks": False, "run.agent_steps": 900}, resume=tmp_path / "run")


def mask_of(*rows: str) -> Tensor:
    """Masks [T,B=1,A] from rows such as "0101"."""
    return torch.tensor([[[c == "1" for c in row]] for row in rows])


def steps_of(*rows: str, terminal: bool = False) -> Step:
    """Two steps in states 0 and 1 with the masks `rows`."""
    no = torch.zeros(2, 1, dtype=torch.bool)
    ends = torch.tensor([[False], [terminal]])
    reward, action = torch.tensor([[0.0], [7.0]]), torch.tensor([[1], [0]])
    return Step(torch.tensor([[0], [1]]), reward, no, ends, ends, action, {KEY: mask_of(*rows)})


class Table(nn.Module):
    """Observations are row numbers: [T,B] -> [T,B,A], with a last axis of 1 if `outputs`."""

    def __init__(self, rows: list[list[float]], outputs: bool):
        super().__init__()
        self.rows, self.outputs = torch.tensor(rows), outputs

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        q = self.rows[step.observation]
        return q.unsqueeze(-1) if self.outputs else q, state


ONLINE = [[1.0, 2.0, 3.0, 4.0], [9.0, 5.0, 6.0, 4.0]]
TARGET = [[0.0, 0.0, 0.0, 0.0], [10.0, 20.0, 30.0, 40.0]]
CASES = {  # mask at the bootstrap step, double -> y with γ = 0.5
    "all": ("1111", False, 7 + 0.5 * 40),
    "the best is masked": ("1110", False, 7 + 0.5 * 30),
    "one is left": ("0100", False, 7 + 0.5 * 20),
    "double: the online net's best is masked": ("0111", True, 7 + 0.5 * 30),
    "none is left": ("0000", False, 7 + 0.5 * 40),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["dqn", "q_learning", "r2d2"])
def test_targets_choose_among_allowed_actions(name: str, case: str) -> None:
    mask, double, y = CASES[case]
    if name == "q_learning" and double:
        return
    net = NetConfig(torso="mlp", hidden=8)
    settings = {"name": name, "discount": 0.5, "reward_clip": None, "double": double}
    made: Any
    if name == "r2d2":
        sizes = {"n_steps": 1, "burn_in": 0, "unroll": 2, "stride": 2, "rescale_epsilon": None}
        made = R2D2(R2D2Config.model_validate(settings | sizes), net, SPEC)
    else:
        made = (DQN if name == "dqn" else QLearning)(ValueConfig.model_validate(settings), net, SPEC)
    online, target = Table(ONLINE, name == "dqn"), Table(TARGET, name == "dqn")
    trajectory = Trajectory(steps_of("1000", mask), ())
    if name == "r2d2":  # a third step, to look one ahead from the second
        steps = trajectory.steps
        trajectory = Trajectory(
            Step(*(torch.cat([leaf, leaf[-1:]]) for leaf in steps[:-1]), {KEY: mask_of("1000", mask, "1111")}), ()
        )
    loss = made.loss(online, target, trajectory, torch.Generator().manual_seed(0))
    assert loss.td[0].item() == pytest.approx(y - 2.0)


def test_a_terminal_state_without_actions_has_no_value() -> None:
    made = QLearning(ValueConfig.model_validate({"name": "q_learning", "reward_clip": None}), NetConfig(), SPEC)
    loss = made.loss(
        Table(ONLINE, False), Table(TARGET, False), Trajectory(steps_of("1111", "0000", terminal=True), ()), torch.Generator()
    )
    assert loss.td is not None
    assert loss.td.item() == 7 - 2


def test_greedy_and_random_choices_are_allowed_and_random_ones_uniform() -> None:
    config = ValueConfig.model_validate({"name": "dqn", "epsilon_start": 1.0, "epsilon_end": 1.0})
    rows = 6000
    step = steps_of("0110", "0110")
    step = Step(*(leaf[:1].expand(1, rows) for leaf in step[:-1]), {KEY: mask_of("0110").expand(1, rows, ACTIONS)})
    q = torch.tensor([9.0, 1.0, 2.0, 9.0]).expand(rows, ACTIONS)
    random = epsilon_greedy(q, config, Mode(True, 0, torch.Generator().manual_seed(0)), step)
    assert torch.bincount(random, minlength=4).tolist() == pytest.approx([0, rows / 2, rows / 2, 0], abs=200)
    greedy = epsilon_greedy(q, config.model_copy(update={"epsilon_eval": 0.0}), Mode(False, 0, torch.Generator()), step)
    assert greedy.unique().tolist() == [2]


def test_values_are_masked_and_stay_where_nothing_is_allowed() -> None:
    values = torch.arange(8.0).view(2, 1, 4)
    assert masked(values, steps_of("1010", "0000")).tolist() == [[[0.0, FORBIDDEN, 2.0, FORBIDDEN]], [[4.0, 5.0, 6.0, 7.0]]]
    assert masked(values, steps_of("1010", "0000")._replace(extras={})) is values


@pytest.mark.parametrize("name", [*VALUE, *ON_POLICY])
def test_a_collector_never_takes_a_masked_action_and_stores_the_masks(name: str, tmp_path: Path) -> None:
    config = resolve(base_of(name, tmp_path), changes(name))
    env = make_env(config)
    made = build(config)
    agent, net = made.agent, made.learner.net
    for explore in (True, False):
        collector = Collector(env, agent, net, seed=0, explore=explore)
        unroll, _ = collector.collect(40, 0)
        mask, action = unroll.steps.extras[KEY], unroll.steps.action  # [K,L,A], [K,L]
        assert 0.2 < mask.mean() < 0.9
        assert (np.take_along_axis(mask, action[..., None], -1)[..., 0] | unroll.steps.last).all()
    assert Corner.offences == 0
    made.close()


@pytest.mark.parametrize("name", POLICY)
def test_masked_actions_have_no_probability_and_no_part_in_the_entropy(name: str, tmp_path: Path) -> None:
    config = resolve(base_of(name, tmp_path), changes(name))
    made = build(config)
    observation = torch.zeros(1, 1, 6)
    no = torch.zeros(1, 1, dtype=torch.bool)
    step = Step(observation, torch.zeros(1, 1), no, no, no, torch.zeros(1, 1, dtype=torch.int64), {KEY: mask_of("0110")})
    policy, _ = made.learner.net(step, made.agent.initial_state(1))
    assert log_prob(policy, torch.tensor([[0]])).exp().item() == 0
    assert entropy(policy).item() == pytest.approx(np.log(2), abs=1e-3)
    (entropy(policy) + log_prob(policy, torch.tensor([[1]]))).sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in made.learner.net.parameters())
    made.close()


def test_forced_actions_are_sampled_whatever_the_random_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.rand` returns 0 once in 16 million draws."""
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    policy = PolicyOutput(torch.tensor([[[0.0, FORBIDDEN]]]), None, torch.zeros(1, 1))
    assert sample(policy, torch.Generator()).item() == 0


@pytest.mark.parametrize("name", ["dqn", "r2d2"])
def test_the_store_of_any_agent_keeps_the_masks(name: str, tmp_path: Path) -> None:
    """Also of one that says nothing of them, such as somebody's own."""
    config = resolve(base_of(name, tmp_path), changes(name))
    made = build(config)
    assert [extra.name for extra in made.agent.sequence.extras] == [KEY]  # type: ignore[union-attr]
    steps = 0
    while not made.replay.can_sample(config.learner.batch_size):
        steps += made.collector.advance(steps)[0]
        if made.collector.ready(config.run.collect_agent_steps):
            made.replay.add(made.collector.take())
    batch = made.replay.sample(config.learner.batch_size).trajectory.steps
    place, mask = batch.observation, batch.extras[KEY]
    assert (mask[0, :, 0] == (place[0, :, 0] == 0)).all()  # up is allowed but in the first row
    made.close()


def test_an_agent_that_does_not_obey_is_stopped() -> None:
    config = resolve("classic/dqn", changes("dqn"))
    env = make_env(config)
    made = build(config)

    class Stubborn(DQN):
        def act(self, net: Any, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
            return torch.zeros(step.first.shape[1], dtype=torch.int64), state, {}

    agent = Stubborn(made.agent.config, config.net, made.spec)
    collector = Collector(env, agent, made.learner.net, seed=0)
    with pytest.raises(
        RlsuiteError, match=r"action 0 was chosen for environment \d, which allows \[.*\] \(info\['action_mask'\]\)"
    ):
        collector.collect(40, 0)
    made.close()


def test_masks_can_be_ignored_and_recordings_without_them_are_refused(tmp_path: Path) -> None:
    for inside in (False, True):
        ignored = {"env.action_masks": False, "env.kwargs": {"in_observation": inside}}
        spec = describe(make_env(resolve("classic/dqn", changes("dqn", **ignored))))
        assert (spec.info_keys, spec.observation_shape) == ((), (6,))  # the masks are no observations either
    made = build(resolve("classic/dqn", changes("dqn")))
    config = resolve("classic/dqn", changes("dqn"))
    shown = config.model_copy(
        update={"replay": config.replay.model_copy(update={"demonstrations": str(tmp_path), "demonstration_ratio": 0.5})}
    )
    with pytest.raises(UsageError, match=r"Corner-v0 masks actions, and recordings hold no masks"):
        make_replay(shown, made.spec, make_agent(config, made.spec))
    made.close()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "in_observation"),
    combinations([("dqn", False), ("dqn", True), ("r2d2", True), ("ppo", False)], ["dqn", "r2d2", "ppo"], [False, True]),
)
def test_the_grid_is_learned_without_an_offence(name: str, in_observation: bool, tmp_path: Path) -> None:
    """Also saved and played in a loop of one's own."""
    more: dict[str, Any] = {
        "env.kwargs": {"in_observation": in_observation},
        "run.agent_steps": 12_000 if name == "ppo" else 6_000,
        "eval.every_agent_steps": None,
        "eval.stop_at_return": None,
        "eval.episodes": 20,
    }
    more |= {} if name == "ppo" else {"replay.min_agent_steps": 500, "agent.epsilon_eval": 0.0}
    result = rlsuite.train(base_of(name, tmp_path), changes(name, **more), run_dir=tmp_path / "run")
    assert Corner.offences == 0
    assert result.evaluation.mean > 0.8  # at most three steps at 0.05 before the goal

    agent, env = rlsuite.load(result.run), Corner(in_observation=in_observation)
    state, total = agent.initial_state(1), 0.0
    observation, info = env.reset(seed=5)
    over, first = False, True
    while not over:
        rows = {key: part[None] for key, part in observation.items()} if in_observation else observation[None]
        action, state = agent.act(rows, state, np.array([first]), {key: mask[None] for key, mask in info.items()}, np.zeros(1))
        observation, reward, over, _, info = env.step(action[0])
        total, first = total + reward, False
    assert total > 0.8
    assert Corner.offences == 0
