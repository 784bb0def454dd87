"""Nets for value-based agents: torso, memory core and a head of action values.

Shapes: T time, B batch, D features, A actions, N outputs per action (atoms, quantiles).
"""

import torch
from torch import Tensor, nn

from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step
from rlsuite.nets.heads import CosineEmbedding, QHead
from rlsuite.nets.memory import FeedForward, make_core
from rlsuite.nets.self_prediction import Transition, renormalised
from rlsuite.nets.torso import Trunk, make_torso, orthogonal_


class QNet(nn.Module):
    """Feed-forward Q-network with N outputs per action; optionally dueling and noisy."""

    def __init__(
        self, net: NetConfig, spec: EnvSpec, outputs: int, dueling: bool, noisy_sigma: float | None, predicts: bool = False
    ):
        """`predicts`: add a transition model, for the self-predictive loss. UsageError if the torso then has no feature map."""
        super().__init__()
        self.torso = make_torso(net.torso, net.hidden, spec, net.layer_norm)
        self.core = FeedForward(self.torso.features)
        shape = (spec.num_actions, outputs, dueling, noisy_sigma, net.layer_norm, predicts)
        self.head = QHead(self.torso.features, net.hidden, *shape)
        self.transition = None
        if predicts:
            if self.torso.map_shape is None:
                why = "use nature or impala" if spec.picture is None else "numbers beside the picture cannot be predicted"
                raise UsageError(f"agent.spr_weight: net.torso={net.torso} has no feature map to predict; {why}")
            self.transition = Transition(self.torso.map_shape, spec.num_actions)

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        """(step [T,B,...], state ()) -> (values [T,B,A,N] f32, ())."""
        features, state = self.core(self.features(step.observation), step, state)  # [T,B,D]
        return self.head(features), state

    def features(self, observation: Tensor) -> Tensor:
        """observation [T,B,*shape] -> features [T,B,D], scaled to [0,1] if there is a transition model."""
        features: Tensor = self.torso(observation)
        return features if self.transition is None else renormalised(features)

    def projections(self, observation: Tensor) -> Tensor:
        """observation [T,B,*shape] -> projections [T,B,P]."""
        return self.head.project(self.features(observation))

    def predictions(self, observation: Tensor, action: Tensor) -> Tensor:
        """Projections [K,B,P] predicted for the steps after observation [1,B,*shape] and actions [K,B]. Only with `predicts`."""
        assert self.transition is not None
        z, ahead = self.features(observation)[0], []  # [B,D]
        for a in action:
            z = self.transition(z, a)
            ahead.append(z)
        return self.head.predict(torch.stack(ahead))


class ImplicitQNet(nn.Module):
    """Implicit quantile network (IQN, Dabney et al. 2018b): `forward` gives features, `quantiles` the value of any quantile."""

    def __init__(self, net: NetConfig, spec: EnvSpec, cosines: int, dueling: bool, noisy_sigma: float | None):
        super().__init__()
        self.torso = make_torso(net.torso, net.hidden, spec, net.layer_norm)
        self.core = FeedForward(self.torso.features)
        self.embedding = CosineEmbedding(self.torso.features, cosines)
        self.head = QHead(self.torso.features, net.hidden, spec.num_actions, 1, dueling, noisy_sigma, net.layer_norm)

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        """(step [T,B,...], state ()) -> (features [T,B,D], ())."""
        features, state = self.core(self.torso(step.observation), step, state)
        return features, state

    def quantiles(self, features: Tensor, tau: Tensor) -> Tensor:
        """features [B,D], tau [B,N] f32 in (0,1) -> action values [B,A,N] f32 (eq. 4: from the product of ψ(x) and φ(τ))."""
        mixed = features.unsqueeze(0) * self.embedding(tau.transpose(0, 1))  # [N,B,D]
        values: Tensor = self.head(mixed)  # [N,B,A,1]
        return values.squeeze(-1).permute(1, 2, 0)


class MemoryQNet(nn.Module):
    """Recurrent Q-network, with a dense layer and a memory core between torso and head."""

    def __init__(self, net: NetConfig, spec: EnvSpec, dueling: bool, noisy_sigma: float | None):
        super().__init__()
        self.trunk = Trunk(net, spec)
        orthogonal_(self.trunk)
        self.core = make_core(net, net.hidden, spec)
        self.head = QHead(self.core.features, net.hidden, spec.num_actions, 1, dueling, noisy_sigma, net.layer_norm)

    def forward(self, step: Step, state: State) -> tuple[Tensor, State]:
        """(step [T,B,...], state [B,...]) -> (action values [T,B,A] f32, state after step T-1)."""
        features, state = self.core(self.trunk(step.observation), step, state)  # [T,B,D]
        return self.head(features).squeeze(-1), state
