"""Distributional value agents: C51, QR-DQN and IQN. With double, dueling, noisy, n-step and prioritized replay, C51 is Rainbow.

Z(s, a) is the distribution of the return; actions maximise its mean. The target y = R_n + γ^n Z⁻(s_{t+n}, a*) shifts and scales
every support point.

C51 (Bellemare et al. 2017, algorithm 1): Z on fixed atoms z_i in [v_min, v_max]; the target is projected onto them:
    L_t = - Σ_i m_i log p_i(s_t, a_t),   m = Φ(y)                priority: KL(m || p), as in Rainbow (Hessel et al. 2018)
QR-DQN (Dabney et al. 2018a, algorithm 1): N quantiles θ_i at τ_i = (2i + 1) / 2N, quantile Huber loss with κ = 1:
    L_t = Σ_i mean_j |τ_i - 1{u_ij < 0}| Huber(u_ij),  u_ij = y_j - θ_i
IQN (Dabney et al. 2018b): the same loss at sampled τ ~ U(0, 1) on both sides.

`munchausen` (Vieillard et al. 2020, M-IQN) replaces a* by the policy π = softmax(mean Z⁻ / τ), as in agents/dqn.py.

Where we differ: all three average their loss over the batch; QR-DQN and IQN, whose papers define no priority, use
|mean y - mean Z|; Adam's ε is the papers' value for a mean loss (0.01 / 32).

Shapes: B batch, A actions, N atoms or quantiles, M target samples.
"""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from rlsuite.agents.value_based import ValueAgent, ValueConfig, munchausen, set_noise, soft_policy, take, unpack
from rlsuite.core.agent import Loss, Net
from rlsuite.core.masks import masked
from rlsuite.core.types import State, Step, Trajectory
from rlsuite.nets.q_net import ImplicitQNet, QNet


class C51Config(ValueConfig):
    """Settings of C51."""

    atoms: int = Field(51, ge=2)
    """Atoms of the value distribution."""
    v_min: float = -10.0
    """Value of the first atom."""
    v_max: float = 10.0
    """Value of the last atom."""

    @model_validator(mode="after")
    def _range(self) -> "C51Config":
        if self.v_min >= self.v_max:
            raise ValueError(f"v_min = {self.v_min} must be below v_max = {self.v_max}")
        return self


class QRDQNConfig(ValueConfig):
    """Settings of QR-DQN."""

    quantiles: int = Field(200, ge=2)
    """Quantiles of the value distribution."""
    kappa: float = Field(1.0, gt=0)
    """κ of the quantile Huber loss."""


class IQNConfig(ValueConfig):
    """Settings of IQN."""

    samples: int = Field(64, ge=1)
    """Quantiles sampled from the online net in the loss."""
    target_samples: int = Field(64, ge=1)
    """Quantiles sampled from the target net in the loss."""
    policy_samples: int = Field(32, ge=1)
    """Quantiles sampled to choose an action."""
    cosines: int = Field(64, ge=1)
    """Cosine features that embed each sampled quantile."""
    kappa: float = Field(1.0, gt=0)
    """κ of the quantile Huber loss."""


class C51(ValueAgent):
    """C51 agent: learns a categorical distribution of the return on fixed atoms."""

    self_predicts = True
    Config = C51Config
    config: C51Config

    def make_net(self) -> QNet:
        shape = (self.config.atoms, self.config.dueling, self.config.sigma, self.predicts)
        return self.extended(QNet(self.net_config, self.spec, *shape))

    def atoms(self, device: torch.device) -> Tensor:
        """The support of the distribution: atoms [N] f32, evenly spaced from v_min to v_max."""
        return torch.linspace(self.config.v_min, self.config.v_max, self.config.atoms, device=device)

    def q_values(self, net: Net, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        logits, state = net(step, state)  # [1,B,A,N]
        return mean(logits[0].softmax(-1), self.atoms(logits.device)), state

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        start, end, returns, explore, rows = unpack(trajectory, self.config, rng)
        atoms = self.atoms(returns.reward.device)  # [N]
        with torch.no_grad():
            set_noise(target, rows, explore)
            p_t = target(end, trajectory.state)[0][0].softmax(-1)  # [B,A,N]
            selector = p_t
            if self.config.double:
                set_noise(net, rows, explore)
                selector = net(end, trajectory.state)[0][0].softmax(-1)  # [B,A,N]
            best = masked(mean(selector, atoms), end).argmax(-1)  # [B]
            y = returns.reward.unsqueeze(-1) + returns.discount.unsqueeze(-1) * atoms  # [B,N]
            m = project(take(p_t, best), y, atoms)  # [B,N]
        set_noise(net, rows, explore)
        logits = take(net(start, trajectory.state)[0][0], start.action[0])  # [B,N]
        log_p = logits.log_softmax(-1)
        loss = -(m * log_p).sum(-1)  # [B]
        entropy = -torch.special.xlogy(m, m).sum(-1)  # [B]
        kl = (loss.detach() - entropy).clamp(min=0).unsqueeze(0)  # [1,B]
        own = Loss(loss, kl, {"losses/q_values": mean(log_p.detach().exp(), atoms).mean(), "losses/kl": kl.mean()})
        return self.plus_auxiliary(self.plus_self_prediction(own, net, target, trajectory), net, start.observation)


class QRDQN(ValueAgent):
    """QR-DQN agent: learns fixed quantiles of the return by quantile regression."""

    takes_munchausen = self_predicts = True
    Config = QRDQNConfig
    config: QRDQNConfig

    def make_net(self) -> QNet:
        shape = (self.config.quantiles, self.config.dueling, self.config.sigma, self.predicts)
        return self.extended(QNet(self.net_config, self.spec, *shape))

    def q_values(self, net: Net, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        quantiles, state = net(step, state)  # [1,B,A,N]
        return quantiles[0].mean(-1), state

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        start, end, returns, explore, rows = unpack(trajectory, self.config, rng)
        with torch.no_grad():
            set_noise(target, rows, explore)
            theta_t = target(end, trajectory.state)[0][0]  # [B,A,N]
            selector = theta_t
            if self.config.double:
                set_noise(net, rows, explore)
                selector = net(end, trajectory.state)[0][0]  # [B,A,N]
            reward, z_t = returns.reward, take(theta_t, masked(selector.mean(-1), end).argmax(-1))  # [B], [B,N]
            if self.config.munchausen:
                reward = reward + munchausen(target(start, trajectory.state)[0][0].mean(-1), start, self.config)
                z_t = soft_quantiles(theta_t, theta_t.mean(-1), end, self.config)
            y = reward.unsqueeze(-1) + returns.discount.unsqueeze(-1) * z_t  # [B,N]
        set_noise(net, rows, explore)
        theta = take(net(start, trajectory.state)[0][0], start.action[0])  # [B,N]
        n = self.config.quantiles
        tau = (torch.arange(n, device=theta.device) + 0.5) / n  # [N]
        loss = quantile_huber(theta, y, tau.expand_as(theta), self.config.kappa)  # [B]
        own = self.plus_self_prediction(Loss(loss, *mean_error(theta, y)), net, target, trajectory)
        return self.plus_auxiliary(own, net, start.observation)


class IQN(ValueAgent):
    """IQN agent: learns the quantile function of the return at sampled quantiles."""

    takes_munchausen = True
    heads = ("head", "embedding")
    capabilities = ValueAgent.capabilities - {"inference server"}  # it asks its net for quantiles, too
    Config = IQNConfig
    config: IQNConfig

    def make_net(self) -> ImplicitQNet:
        shape = (self.config.cosines, self.config.dueling, self.config.sigma)
        return self.extended(ImplicitQNet(self.net_config, self.spec, *shape))

    def q_values(self, net: Any, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        """Q(s, ·) [B,A] f32, the mean over sampled quantiles, and the new state. `net` is an `ImplicitQNet`, possibly compiled."""
        features, state = net(step, state)  # [1,B,D]
        tau = uniform(features[0], self.config.policy_samples, rng)  # [B,N]
        return net.quantiles(features[0], tau).mean(-1), state

    def loss(self, net: Any, target: Any, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        start, end, returns, explore, rows = unpack(trajectory, self.config, rng)
        with torch.no_grad():
            set_noise(target, rows, explore)
            features_t = target(end, trajectory.state)[0][0]  # [B,D]
            chooser, features = target, features_t
            if self.config.double:
                set_noise(net, rows, explore)
                chooser, features = net, net(end, trajectory.state)[0][0]
            q = chooser.quantiles(features, uniform(features, self.config.policy_samples, rng)).mean(-1)  # [B,A]
            z_t = target.quantiles(features_t, uniform(features_t, self.config.target_samples, rng))  # [B,A,M]
            reward, chosen = returns.reward, take(z_t, masked(q, end).argmax(-1))  # [B], [B,M]
            if self.config.munchausen:
                before = target(start, trajectory.state)[0][0]  # [B,D]
                q_tm1 = target.quantiles(before, uniform(before, self.config.policy_samples, rng)).mean(-1)  # [B,A]
                reward = reward + munchausen(q_tm1, start, self.config)
                chosen = soft_quantiles(z_t, q, end, self.config)
            y = reward.unsqueeze(-1) + returns.discount.unsqueeze(-1) * chosen  # [B,M]
        set_noise(net, rows, explore)
        features_tm1 = net(start, trajectory.state)[0][0]  # [B,D]
        tau = uniform(features_tm1, self.config.samples, rng)  # [B,N]
        theta = take(net.quantiles(features_tm1, tau), start.action[0])  # [B,N]
        own = Loss(quantile_huber(theta, y, tau, self.config.kappa), *mean_error(theta, y))
        return self.plus_auxiliary(own, net, start.observation)


def mean(p: Tensor, atoms: Tensor) -> Tensor:
    """Means [...] of the distributions p [...,N] over atoms [N].

    Not a matrix product: autocast would round it to bf16, which is coarser than the differences between action values.
    """
    return (p * atoms).sum(-1)


def project(p: Tensor, at: Tensor, atoms: Tensor) -> Tensor:
    """The projection Φ of C51: moves probabilities p [B,N] from positions `at` [B,N] to the evenly spaced `atoms` [N].

    Each probability is split between the two nearest atoms. Returns [B,N].
    """
    step = atoms[1] - atoms[0]
    distance = (at.clamp(atoms[0], atoms[-1]).unsqueeze(-2) - atoms.unsqueeze(-1)).abs() / step  # [B,N atoms,N sources]
    return ((1 - distance).clamp(min=0) * p.unsqueeze(-2)).sum(-1)


def soft_quantiles(z: Tensor, q: Tensor, step: Step, config: ValueConfig) -> Tensor:
    """Munchausen's target quantiles Σ_a π(a|s) (z_a - τ log π(a|s)), [B,M] from z [B,A,M] and the means q [B,A] of `step`."""
    pi, log_pi = soft_policy(q, step, config)  # [B,A], τ log π
    return (pi.unsqueeze(-1) * (z - log_pi.unsqueeze(-1))).sum(1)


def quantile_huber(theta: Tensor, y: Tensor, tau: Tensor, kappa: float) -> Tensor:
    """Quantile Huber loss [B] of quantiles theta [B,N] at tau [B,N] against target samples y [B,M].

    Summed over quantiles, averaged over target samples.
    """
    u = y.unsqueeze(1) - theta.unsqueeze(2)  # [B,N,M]
    huber = F.huber_loss(theta.unsqueeze(2).expand_as(u), y.unsqueeze(1).expand_as(u), reduction="none", delta=kappa)
    weight = (tau.unsqueeze(2) - (u.detach() < 0).float()).abs()  # [B,N,M]
    return (weight * huber / kappa).mean(2).sum(1)


def mean_error(theta: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The TD error [1,B] between the means of target samples y [B,M] and of quantiles theta [B,N], with metrics."""
    q = theta.detach().mean(-1)  # [B]
    td = (y.mean(-1) - q).unsqueeze(0)  # [1,B]
    return td, {"losses/q_values": q.mean(), "losses/td_error": td.abs().mean()}


def uniform(like: Tensor, count: int, rng: torch.Generator | None) -> Tensor:
    """Samples τ ~ U(0, 1) [B,count] f32, on the device of `like` [B,...]; without `rng` the midpoints of `count` equal parts."""
    if rng is None:
        return ((torch.arange(count, device=like.device) + 0.5) / count).expand(like.shape[0], count)
    return torch.rand(like.shape[0], count, generator=rng, device=like.device)
