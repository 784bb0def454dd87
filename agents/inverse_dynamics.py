"""Inverse dynamics (VPT, Baker et al. 2022): infers the actions between observations, so recordings without actions become usable.

    L = -log p(a_t | s_1, ..., s_n)      for the observations before and after a_t

It learns from recordings with actions; `rlsuite label` then adds actions to recordings that have none. Inferring what was done is
far easier than deciding what to do, because the observations after an action show its effect. So a few recordings with actions are
enough to make many without actions usable.

The net also reads `margin` steps before and after those that it learns from. Its core sees the features of each observation and how
they change at the next one; the changes are scaled up by layer normalisation because consecutive frames are nearly identical. The
core must look ahead, as `net.memory=bidirectional(...)` does. The action at a final observation was never executed, so it is not
learned.

Where we differ: feature changes and a recurrent core instead of a temporal convolution and a transformer over whole videos.

Shapes: n actions of an episode, T time = margin + unroll + margin, B batch, H units of the dense layer, A actions.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rlsuite.agents.policy_gradient import columns, likeliest, log_prob, mean
from rlsuite.agents.recordings import RecordingAgent
from rlsuite.config import schema
from rlsuite.config.schema import AgentSection, NetConfig
from rlsuite.core.agent import Capability, Loss, Net, Sequences
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, part_of
from rlsuite.nets.memory import make_core, without_weights
from rlsuite.nets.policy_net import PolicyOutput
from rlsuite.nets.precision import keep_fp32
from rlsuite.nets.torso import Trunk, orthogonal_

PIECES = 64  # pieces of an episode whose actions are inferred at once


class InverseDynamicsConfig(AgentSection):
    """Settings of inverse dynamics."""

    margin: int = Field(4, ge=1)
    """Context steps before and after the steps to learn from."""
    unroll: int = Field(32, ge=2)
    """Steps of a sequence to learn from."""
    stride: int = Field(16, ge=2)
    """Steps between the starts of consecutive sequences."""


class ActionNet(nn.Module):
    """Torso, dense layer and memory core, with a head that predicts actions."""

    def __init__(self, net: NetConfig, spec: EnvSpec):
        super().__init__()
        self.trunk = Trunk(net, spec)
        orthogonal_(self.trunk)
        self.scale = nn.LayerNorm(net.hidden)
        self.core = make_core(net, 2 * net.hidden, spec)
        size = spec.action_shape[0] if spec.action_shape else spec.num_actions
        self.name = keep_fp32(nn.Linear(self.core.features, size))
        self.log_std = nn.Parameter(torch.zeros(size)) if spec.action_shape else None

    def forward(self, step: Step, state: State) -> tuple[PolicyOutput, State]:
        """(step [T,B,...], state [B,...]) -> (the inferred distribution of each step's action, with values of 0, state)."""
        features = self.trunk(step.observation)  # [T,B,H]
        change = self.scale(features[1:] - features[:-1]) * ~step.last[:-1].unsqueeze(-1)  # [T-1,B,H]
        change = torch.cat([change, torch.zeros_like(features[:1])])  # [T,B,H]; what follows the last step is not seen
        h, state = self.core(torch.cat([features, change], -1), step, state)  # [T,B,M]
        with torch.autocast(h.device.type, enabled=False):
            logits = self.name(h.float())
        return PolicyOutput(logits, self.log_std, torch.zeros_like(step.reward)), state


class InverseDynamics(RecordingAgent):
    """Inverse-dynamics model: discrete or continuous actions."""

    Config: ClassVar[type[InverseDynamicsConfig]] = InverseDynamicsConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"continuous actions", "net.memory", "looking ahead"})
    use = "it names the actions of recordings (rlsuite label)"
    config: InverseDynamicsConfig

    def __init__(self, config: InverseDynamicsConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.sequence = Sequences(config.margin, config.unroll, config.margin, min(config.stride, config.unroll))

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses a core that does not look ahead."""
        super().validate(config)
        if not without_weights(config.net).looks_ahead:
            raise ValueError(
                "agent.name = inverse_dynamics looks at what follows an action: use net.memory = bidirectional(core=lstm)"
            )

    def make_net(self) -> "ActionNet":
        return ActionNet(self.net_config, self.spec)

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        with steps.reward.device:
            state = self.initial_state(steps.first.shape[1])
        rows = slice(self.config.margin, self.config.margin + self.config.unroll)
        said, learned = net(steps, state)[0], part_of(steps, rows)
        policy = said._replace(logits=said.logits[rows])
        log_p, valid = log_prob(policy, learned.action), ~learned.last  # [unroll,B]
        metrics = {"losses/log_prob": mean(log_p, valid)}
        if policy.log_std is None:
            metrics["losses/same_action"] = mean((policy.logits.argmax(-1) == learned.action).float(), valid)
        return Loss(columns(-log_p, valid), None, metrics)

    def actions(self, net: Net, episode: Step) -> Tensor:
        """The likeliest actions [n,...] between the n + 1 observations of an episode, leaves [n+1,...]."""
        margin, unroll, n, found = self.config.margin, self.config.unroll, len(episode.reward) - 1, []
        device = episode.reward.device
        within = torch.arange(unroll + 2 * margin, device=device).unsqueeze(1) - margin  # [T,1]
        for begin in range(0, n, PIECES * unroll):
            begins = torch.arange(begin, min(n, begin + PIECES * unroll), unroll, device=device)
            time = begins + within  # [T,pieces]
            seen = part_of(episode, time.clamp(0, n))._replace(first=(time <= 0) | (time > n))  # no more than the episode
            with device:
                state = self.initial_state(len(begins))
            named = likeliest(net(seen, state)[0])[margin : margin + unroll]  # [unroll,pieces,...]
            found.append(named.transpose(0, 1).flatten(0, 1))
        return torch.cat(found)[:n]

    def rate(self, net: Net, episode: Step) -> float:
        """See `score`."""
        return self.score(self.actions(net, episode), episode.action[:-1])

    def score(self, named: Tensor, done: Tensor) -> float:
        """The fraction of actions [n,...] predicted correctly; for continuous actions, minus the mean squared error."""
        if self.spec.action_shape:
            return -float((named - done).square().mean())
        return float((named == done).float().mean())
