"""R2D2 (Kapturowski et al. 2019): recurrent double Q-learning from replayed sequences, with stored states and burn-in.

    Q_t  = Q(s_t, ·) from the recurrent state at the start of the sequence, warmed up by `burn_in` steps
    y_t  = h( Σ_{k<n} γ^k r_{t+k+1}  +  γ^n h⁻¹(Q⁻(s_{t+n}, a*)) ),  a* = argmax_a Q(s_{t+n}, a); stops at the end of the episode
    L    = Σ_t (y_t - Q(s_t, a_t))² / 2 over the `unroll` steps
    p    = η max_t |y_t - Q_t| + (1 - η) mean_t |y_t - Q_t|,  h(x) = sign(x) (sqrt(|x| + 1) - 1) + ε x

`stored_state: false` starts sequences from zeros (the paper's "zero state"). `cross_episodes: false` is the paper's rule that no
sequence crosses the end of an episode: strides are counted from the first step of an episode, steps after its end are not learned
from, and its first `burn_in` steps only warm up the memory. By default, sequences start every `stride` steps and may contain
episode ends: the memory is reset there, and every step is learned from.

Where we differ: the paper prints the target's argmax under Q⁻, which we take for a misprint of double Q-learning; importance
weights are on (Table 2 has exponent 0.6, another version of the paper has none: `replay.importance_exponent_*` = 0); the loss is
summed over the steps of a sequence, which the paper leaves open; time limits bootstrap from the final observation.

Shapes: T steps of a sequence = burn_in + unroll + n_steps, U of them the unroll, B batch, A actions.
"""

from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from rlsuite.agents.value_based import ValueAgent, ValueConfig, set_noise
from rlsuite.config import schema
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Extra, Loss, Mode, Net, Sequences
from rlsuite.core.masks import masked
from rlsuite.core.returns import learned_reward, n_step_targets, rescale, unscale
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, transitions, tree_map
from rlsuite.nets.memory import initial_state
from rlsuite.nets.q_net import MemoryQNet
from rlsuite.nets.torso import cast_once


class R2D2Config(ValueConfig):
    """Settings of R2D2."""

    discount: float = Field(0.997, ge=0, le=1)
    """Discount γ, per agent step."""
    n_steps: int = Field(5, ge=1, le=1000)
    """n of the n-step target."""
    double: bool = True
    """Double Q-learning: the online net chooses the bootstrap action, the target net evaluates it."""
    dueling: bool = True
    """Separate streams for the value and the advantages."""
    reward_clip: float | None = Field(None, gt=0)
    """Clip rewards to ± this in the loss; null: raw rewards."""
    epsilon_ladder: bool = True
    """Give each environment its own constant ε, as in Ape-X, instead of the schedule."""
    burn_in: int = Field(40, ge=0)
    """Steps at the start of a sequence that only warm up the recurrent state."""
    unroll: int = Field(80, ge=1)
    """Steps of a sequence to learn from."""
    stride: int = Field(40, ge=2)
    """Steps between the starts of consecutive sequences."""
    stored_state: bool = True
    """Start sequences from the recurrent state stored with them; false: from zeros."""
    cross_episodes: bool = True
    """Let sequences continue across episode ends; false: they stop there, as in the paper."""
    rescale_epsilon: float | None = Field(1e-3, gt=0)
    """ε of the value rescaling h; null: values are not rescaled."""
    priority_max_weight: float = Field(0.9, ge=0, le=1)
    """η: weight of a sequence's largest TD error in its priority; their mean gets 1 - η."""

    @model_validator(mode="after")
    def _covers(self) -> "R2D2Config":
        if self.stride > self.unroll:
            raise ValueError(
                f"stride {self.stride} is larger than unroll {self.unroll}: the steps between would never be learned from"
            )
        return self


class R2D2(ValueAgent):
    """R2D2 agent: a recurrent net gives Q(s, ·), trained off-policy on replayed sequences."""

    Config = R2D2Config
    capabilities = ValueAgent.capabilities | {"net.memory", "net.last_action_reward"}
    config: R2D2Config

    def __init__(self, config: R2D2Config, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        state = self.initial_state(1) if config.stored_state else ()
        self.sequence = Sequences(
            config.burn_in,
            config.unroll,
            config.n_steps,
            config.stride,
            state=tuple(Extra(f"state {i}", tuple(leaf.shape[1:]), leaf.numpy().dtype.name) for i, leaf in enumerate(state)),
            within_episodes=not config.cross_episodes,
        )

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores the keys of priorities and stored states if there are none."""
        ignored = super().ignores(config)
        if not config.replay.prioritized:
            ignored["agent.priority_max_weight"] = "replay.prioritized = true"
        if config.net.memory == "none" and not config.net.last_action_reward:
            ignored["agent.stored_state"] = "net.memory other than none"
        return ignored

    def make_net(self) -> MemoryQNet:
        return self.extended(MemoryQNet(self.net_config, self.spec, self.config.dueling, self.config.sigma))

    def initial_state(self, batch: int) -> State:
        return initial_state(self.net_config, self.spec, batch)

    def q_values(self, net: Net, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        q, state = net(step, state)  # [1,B,A]
        return q[0], state

    def scores(self, net: Net, steps: Step, state: State) -> tuple[Tensor, State]:
        q, state = net(steps, state)  # [T,B,A]
        return q, state

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        config, (steps, state) = self.config, trajectory
        rows = steps.first.shape[1]
        steps = steps._replace(observation=cast_once(steps.observation, self.net_config, self.spec))
        if not config.stored_state:
            with steps.reward.device:
                state = self.initial_state(rows)
        warm_up, rest = split(steps, config.burn_in)
        learned, after = split(rest, config.unroll)
        explore = Mode(explore=True, agent_steps=0, rng=rng)
        set_noise(net, rows, explore)

        with torch.no_grad():
            set_noise(target, rows, explore)
            q_t = target(steps, state)[0][config.burn_in :]  # [U+n,B,A]
            if config.burn_in:
                state = net(warm_up, state)[1]

        q_tm1, state = net(learned, state)  # [U,B,A]
        with torch.no_grad():
            q_after = net(after, state)[0]  # [n,B,A] only used in an argmax, so no gradient is lost
            selector = torch.cat([q_tm1, q_after]) if config.double else q_t  # [U+n,B,A]
            v_t = self._unscale(pick(q_t, masked(selector, rest).argmax(-1)))  # [U+n,B]
            r_t = learned_reward(rest, config.reward_clip)  # [U+n,B]
            y_t = n_step_targets(transitions(rest._replace(reward=r_t), config.discount), v_t, config.n_steps)  # [U,B] or more
            y = self._rescale(y_t[: config.unroll])  # [U,B]

        a_tm1 = learned.action  # [U,B]
        qa_tm1 = pick(q_tm1, a_tm1)  # [U,B]
        td = y - qa_tm1  # [U,B]
        valid = ~learned.last
        if not config.cross_episodes:
            valid = valid & split(before_the_end(steps.last), config.burn_in)[1][: config.unroll]
        loss = 0.5 * (td**2 * valid).sum(0)  # [B]
        td, counted = td.detach(), valid.sum().clamp(min=1)
        metrics = {
            "losses/q_values": (qa_tm1.detach() * valid).sum() / counted,
            "losses/td_error": (td.abs() * valid).sum() / counted,
            "losses/valid_share": valid.float().mean(),
        }
        return self.plus_auxiliary(Loss(loss, td, metrics, valid=valid), net, learned.observation)

    def priority(self, td: Tensor, valid: Tensor) -> Tensor:
        """η max_t |td| + (1 - η) mean_t |td| over the valid steps: td, valid [T,B] -> [B] f32."""
        size = td.abs() * valid
        eta = self.config.priority_max_weight
        return eta * size.amax(0) + (1 - eta) * size.sum(0) / valid.sum(0).clamp(min=1) + 1e-6

    def _rescale(self, x: Tensor) -> Tensor:
        return x if self.config.rescale_epsilon is None else rescale(x, self.config.rescale_epsilon)

    def _unscale(self, y: Tensor) -> Tensor:
        return y if self.config.rescale_epsilon is None else unscale(y, self.config.rescale_epsilon)


def split(tree: Any, at: int) -> tuple[Any, Any]:
    """Splits leaves [T,...] in time, into [at,...] and [T-at,...]."""
    return tree_map(lambda leaf: leaf[:at], tree), tree_map(lambda leaf: leaf[at:], tree)


def pick(q: Tensor, action: Tensor) -> Tensor:
    """The values of the chosen actions: q [T,B,A], action [T,B] i64 -> [T,B]."""
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def before_the_end(last: Tensor) -> Tensor:
    """Whether a step belongs to the episode that the sequence starts in: last [T,B] bool -> [T,B] bool."""
    ends = last.long().cumsum(0)
    return ends - last.long() == 0
