"""PQN (Gallici et al. 2024): Q-learning from many parallel environments, without a replay or a target net.

    G_t = r_{t+1} + γ (λ G_{t+1} + (1 - λ) max_a Q(s_{t+1}, a)),   G_T = max_a Q(s_T, a)     on the rollout, before its updates
    L_t = (Q(s_t, a_t) - G_t)² / 2                                  a few passes over shuffled minibatches, as in PPO

Layer normalisation takes the place of a target net: `net.layer_norm` for dense layers, and a torso with `norm=layer`.

Where we differ: time limits bootstrap from the final observation, only terminal states do not; the input has no batch
normalisation; λ-returns stop at the end of a rollout, as in the authors' code.

Shapes: T steps of a rollout, B environments (T = 1 in a minibatch), A actions.
"""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from rlsuite.agents.policy_gradient import columns, explained_variance, mean
from rlsuite.agents.rollouts import ignored_without_replay, minibatches, refuse_bad_rollouts, refuse_uneven_minibatches
from rlsuite.agents.value_based import ValueAgent, ValueConfig, set_noise
from rlsuite.config import schema
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Loss, Mode, Net, Rollouts
from rlsuite.core.masks import masked
from rlsuite.core.returns import lambda_returns, learned_reward
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, flatten_time, part_of, transitions
from rlsuite.nets.q_net import QNet


class PQNConfig(ValueConfig):
    """Settings of PQN."""

    q_lambda: float = Field(0.65, ge=0, le=1)
    """λ of the λ-returns: 0 gives one-step targets, 1 looks ahead to the end of the rollout."""
    epochs: int = Field(2, ge=1)
    """Passes over each rollout."""
    minibatches: int = Field(32, ge=1)
    """Minibatches per pass."""


class PQN(ValueAgent):
    """PQN agent: Q-learning with λ-returns on each rollout, without a replay."""

    has_target = False
    Config = PQNConfig
    config: PQNConfig

    def __init__(self, config: PQNConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.sequence = Rollouts()

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses rollouts of one step, and batches that are not whole unrolls or do not divide into minibatches."""
        super().validate(config)
        assert isinstance(config.agent, PQNConfig)
        refuse_bad_rollouts(config)
        refuse_uneven_minibatches(config, config.agent.minibatches)

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores the keys of a replay, of n-step targets and of a target net."""
        needs = f"agent.name = an agent with n-step targets; {config.agent.name} has λ-returns"
        n_steps = dict.fromkeys(("agent.n_steps", "agent.anneal_learner_steps"), needs)
        double = {"agent.double": f"agent.name = an agent that has a target network; {config.agent.name} has none"}
        return super().ignores(config) | ignored_without_replay(config, old_weights=False) | n_steps | double

    def make_net(self) -> QNet:
        return self.extended(QNet(self.net_config, self.spec, 1, self.config.dueling, self.config.sigma))

    def q_values(self, net: Net, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        q, state = net(step, state)  # [1,B,A,1]
        return q[0, ..., 0], state

    def prepare(self, net: Net, trajectory: Trajectory, rng: torch.Generator) -> Iterator[Trajectory]:
        """Yields the minibatches of a rollout [T+1,B], epoch by epoch, with λ-returns from the values before the first update."""
        steps = trajectory.steps
        set_noise(net, steps.first.shape[1], Mode(explore=True, agent_steps=0, rng=rng))
        value = masked(net(steps, ())[0][..., 0], steps).amax(-1)  # [T+1,B]
        clipped = steps._replace(reward=learned_reward(steps, self.config.reward_clip))
        target = lambda_returns(transitions(clipped, self.config.discount), value, self.config.q_lambda)  # [T,B]
        steps = part_of(steps, slice(-1))
        batch = flatten_time(Trajectory(steps._replace(extras={**steps.extras, "return": target}), ()))
        yield from minibatches(batch, self.config.epochs, self.config.minibatches, rng)

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        set_noise(net, steps.first.shape[1], Mode(explore=True, agent_steps=0, rng=rng))
        q = net(steps, ())[0][..., 0]  # [T,B,A]
        chosen = q.gather(-1, steps.action.unsqueeze(-1)).squeeze(-1)  # [T,B]
        y, valid = steps.extras["return"], ~steps.last  # [T,B]
        error = y - chosen
        metrics = {
            "losses/q_values": mean(chosen, valid),
            "losses/td_error": mean(error.abs(), valid),
            "losses/explained_variance": explained_variance(chosen, y, valid),
        }
        return self.plus_auxiliary(Loss(columns(0.5 * error**2, valid), None, metrics), net, steps.observation)
