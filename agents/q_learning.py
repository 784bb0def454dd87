"""Tabular Q-learning (Watkins & Dayan 1992), with experience replay (Lin 1992).

    Q(s_t, a_t) <- Q(s_t, a_t) + α (r_{t+1} + γ max_a Q(s_{t+1}, a) - Q(s_t, a_t))        max = 0 in a terminal state

The table is the net, and the update is one step of gradient descent on (y - Q)² / 2: with `learner.optimizer: sgd` the learner's
mean over a batch of B transitions gives α = learning_rate / B for each of them. The learner's target network must be the table
itself: set `learner.target_period_learner_steps: 1`.

Where we differ: transitions are sampled from a replay instead of being used once, in order. That changes how often a pair (s, a) is
updated, not what the updates converge to; α is constant, so on a stochastic task Q ends in a neighbourhood of Q*.

Shapes: T time (= 2), B batch, A actions, S states.
"""

import torch
from torch import Tensor, nn

from rlsuite.agents.value_based import ValueAgent, ValueConfig, take
from rlsuite.config import schema
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Loss, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.masks import masked
from rlsuite.core.returns import learned_reward, n_step
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, transitions


class Table(nn.Module):
    """A table of action values with the signature of a net: (step [T,B], state) -> (Q [T,B,A] f32, state)."""

    def __init__(self, states: int, actions: int):
        super().__init__()
        self.q = nn.Embedding(states, actions)
        nn.init.zeros_(self.q.weight)

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        """Looks up Q [T,B,A] f32 for the states `step.observation` [T,B]; `state` is returned as it is."""
        return self.q(step.observation.long()), state


class QLearning(ValueAgent):
    """Tabular Q-learning agent: the net is a table Q[s, a]."""

    heads = ()

    def __init__(self, config: ValueConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        if spec.num_states is None:
            raise UsageError(
                f"agent.name=q_learning needs discrete states, but observations have shape {spec.observation_shape}; use dqn"
            )
        if config.n_steps != 1 or config.double or config.dueling or config.noisy:
            raise UsageError("agent.name=q_learning does not support n_steps above 1, double, dueling or noisy: it updates a table")
        self.num_states = spec.num_states

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores all of `net.*` except `init_from`: the table has one entry for each state and action."""
        needs = f"agent.name = an agent that has a net; {config.agent.name} has a table"
        return super().ignores(config) | {f"net.{key}": needs for key in NetConfig.model_fields if key != "init_from"}

    def make_net(self) -> Table:
        return self.extended(Table(self.num_states, self.spec.num_actions))

    def q_values(self, net: Net, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        q, state = net(step, state)  # [1,B,A]
        return q[0], state

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        start, end = trajectory.start(), trajectory.bootstrap()
        steps = trajectory.steps._replace(reward=learned_reward(trajectory.steps, self.config.reward_clip))
        returns = n_step(transitions(steps, self.config.discount))  # [B]
        with torch.no_grad():
            y = returns.reward + returns.discount * masked(target(end, ())[0][0], end).amax(-1)  # [B]
        q = take(net(start, ())[0][0], start.action[0])  # [B]
        td = (y - q).detach().unsqueeze(0)  # [1,B]
        return Loss(0.5 * (y - q) ** 2, td, {"losses/q_values": q.detach().mean(), "losses/td_error": td.abs().mean()})
