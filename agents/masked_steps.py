"""Pretraining by masked steps: BERT's idea (Devlin et al. 2019) on recorded play, to initialise another agent's torso and memory.

    L = -log softmax_k(cos(g(h_t), f(s_k)) / τ)_t  -  log p(a_{t-1} | h_t)      for hidden steps t; k: all steps of the batch

A random fraction of the steps of each sequence is hidden: a learned token replaces the features f(s_t) of the observation, and the
previous action and reward, if `net.last_action_reward` shows them, become zeros. From the output h_t of the memory core, the net
has to find the features of the hidden observation among those of all steps of the batch (InfoNCE, van den Oord et al. 2018) and to
predict the previous action. The contrastive loss keeps all features from collapsing to a constant, as a regression loss could.

A forward core (lstm, gru, rnn, attention, causal) fills in a step only from the steps before it. A bidirectional core also sees the
steps after it, so no agent can act with it.

`net.init_from` copies torso, dense layer and memory core of a trained run to any agent whose net has the same ones (R2D2, behaviour
cloning, PPO).

Shapes: T time, B batch, N = T * B, H units of the dense layer, A actions.
"""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rlsuite.agents.policy_gradient import columns, mean
from rlsuite.agents.recordings import RecordingAgent
from rlsuite.config.schema import AgentSection, NetConfig
from rlsuite.core.agent import Capability, Loss, Net, Sequences
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, part_of, tree_map
from rlsuite.nets.memory import make_core
from rlsuite.nets.precision import keep_fp32
from rlsuite.nets.torso import Trunk, orthogonal_

HIDDEN = "hidden"  # of `Step.extras`: which steps the net does not see, bool [T,B]
FAR = -1e9  # the score of padding, which is not a step


class MaskedStepsConfig(AgentSection):
    """Settings of pretraining by masked steps."""

    share: float = Field(0.15, gt=0, lt=1)
    """Fraction of the steps to hide."""
    temperature: float = Field(0.1, gt=0)
    """τ: temperature of the cosine similarities between features."""
    unroll: int = Field(40, ge=2)
    """Steps of a sequence."""
    stride: int = Field(16, ge=2)
    """Steps between the starts of consecutive sequences."""


class Filled(NamedTuple):
    """The net's output for T x B steps."""

    features: Tensor  # [T,B,H] of the observations
    guessed: Tensor  # [T,B,H] the net's guess of these features
    action: Tensor  # [T,B,A] f32: logits of the previous action, or the action itself where actions are continuous


class MaskedNet(nn.Module):
    """Torso, dense layer and memory core, with heads that fill in hidden steps."""

    def __init__(self, net: NetConfig, spec: EnvSpec):
        super().__init__()
        self.no_action = 0.0 if spec.action_shape else -1
        self.trunk = Trunk(net, spec)
        orthogonal_(self.trunk)
        self.core = make_core(net, net.hidden, spec)
        self.token = nn.Parameter(torch.zeros(net.hidden))
        self.guess = keep_fp32(nn.Linear(self.core.features, net.hidden))
        self.action = keep_fp32(nn.Linear(self.core.features, spec.num_actions or sum(spec.action_shape)))

    def forward(self, step: Step, state: State) -> tuple[Filled, State]:
        """(step [T,B,...], state [B,...]) -> (output for all steps, state after step T-1). Hidden steps are masked."""
        features = self.trunk(step.observation)  # [T,B,H]
        hidden = step.extras.get(HIDDEN, torch.zeros_like(step.first)).unsqueeze(-1)  # [T,B,1]
        before = hidden[1:].squeeze(-1) if step.action.dim() == 2 else hidden[1:]  # whether the step after the action is hidden
        action = torch.cat([step.action[:-1].masked_fill(before, self.no_action), step.action[-1:]])
        shown = step._replace(action=action, reward=step.reward * ~hidden.squeeze(-1))
        seen = torch.where(hidden, self.token.to(features.dtype), features)
        h, state = self.core(seen, shown, state)  # [T,B,M]
        with torch.autocast(h.device.type, enabled=False):
            return Filled(features.float(), self.guess(h.float()), self.action(h.float())), state


class MaskedSteps(RecordingAgent):
    """Agent that fills in hidden steps of recordings: discrete or continuous actions, with a memory or without."""

    Config: ClassVar[type[MaskedStepsConfig]] = MaskedStepsConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"continuous actions", "net.memory", "net.last_action_reward", "looking ahead"}
    )
    use = "it is for the start of another agent (net.init_from)"
    config: MaskedStepsConfig

    def __init__(self, config: MaskedStepsConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        self.sequence = Sequences(0, config.unroll, 0, min(config.stride, config.unroll))

    def make_net(self) -> MaskedNet:
        return MaskedNet(self.net_config, self.spec)

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps = trajectory.steps
        hidden = steps.extras[HIDDEN] if HIDDEN in steps.extras else self.hidden(steps.reward, rng)  # [T,B]
        with steps.reward.device:
            state = self.initial_state(steps.first.shape[1])
        said, _ = net(steps._replace(extras={**steps.extras, HIDDEN: hidden}), state)
        real = ~(steps.first & steps.last)  # [T,B], not the padding around a recording
        hidden = hidden & real
        scores = self.scores_of(said, real)  # [N,N]
        own = torch.arange(len(scores), device=scores.device)
        lost = F.cross_entropy(scores, own, reduction="none").view_as(steps.reward)  # [T,B]
        found = (scores.argmax(-1) == own).view_as(hidden).float()  # [T,B]
        acted = hidden[1:] & ~steps.first[1:]  # [T-1,B] whether a hidden action led to the step
        wrong = self.action_loss(said.action[1:], steps.action[:-1])  # [T-1,B]
        metrics = {
            "losses/feature_loss": mean(lost, hidden),
            "losses/feature_accuracy": mean(found, hidden),
            "losses/action_loss": mean(wrong, acted),
        }
        if self.spec.num_actions:
            metrics["losses/action_accuracy"] = mean((said.action[1:].argmax(-1) == steps.action[:-1]).float(), acted)
        return Loss(columns(lost, hidden) + columns(wrong, acted), None, metrics)

    def scores_of(self, said: Filled, real: Tensor) -> Tensor:
        """Similarity of each guess to each step's features: logits [N,N] f32, one row per guess. `real` [T,B]: not padding."""
        guessed, features = (F.normalize(x, dim=-1).flatten(0, 1) for x in (said.guessed, said.features))  # [N,H]
        return (guessed @ features.T / self.config.temperature).masked_fill(~real.flatten(), FAR)

    def action_loss(self, said: Tensor, action: Tensor) -> Tensor:
        """-log p of actions [T,B] or, where they are continuous, half the squared error: [T,B] f32."""
        if self.spec.action_shape:
            return 0.5 * (said - action).square().sum(-1)
        return F.cross_entropy(said.flatten(0, 1), action.flatten(), reduction="none").view_as(action)

    def hidden(self, like: Tensor, rng: torch.Generator) -> Tensor:
        """A random mask of the steps to hide: bool [T,B], the shape and device of `like`."""
        return torch.rand(like.shape, generator=rng, device=like.device) < self.config.share

    def rate(self, net: Net, episode: Step) -> float:
        """Minus the mean loss over hidden steps. The same steps are hidden each time, at least one per piece of `unroll` steps.

        The candidates are the steps of the piece, so a last piece of a single step, which leaves no choice, is left out.
        """
        rng, total, count = torch.Generator(episode.reward.device).manual_seed(0), 0.0, 0
        for begin in range(0, max(len(episode.reward) - 1, 1), self.config.unroll):
            piece = tree_map(lambda leaf: leaf.unsqueeze(1), part_of(episode, slice(begin, begin + self.config.unroll)))
            hidden = self.hidden(piece.reward, rng)
            if not hidden.any():
                hidden[len(hidden) // 2] = True
            shown = piece._replace(extras={**piece.extras, HIDDEN: hidden})
            shares = int(hidden.sum())
            total += float(self.loss(net, net, Trajectory(shown, ()), rng).loss.mean()) * shares
            count += shares
        return -total / count
