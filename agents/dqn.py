"""DQN (Mnih et al. 2015) with its family's options: double, dueling, noisy nets, n-step, prioritized replay, Munchausen.

    y_t = Σ_{k<n} γ^k r_{t+k+1}  +  γ^n Q⁻(s_{t+n}, a*)        the sum stops at the end of the episode
    a*  = argmax_a Q⁻(s_{t+n}, a), or with `double` argmax_a Q(s_{t+n}, a)      (van Hasselt et al. 2016)
    L_t = Huber(Q(s_t, a_t) - y_t)                              the gradient of the TD error is clipped to ±1

`dueling`: Q = V + A - mean A, each stream with its own hidden layer (Wang et al. 2016). `noisy`: factorised Gaussian noise in
the head's layers (Fortunato et al. 2018), resampled at every step for every environment. `n_steps`: n-step returns (Sutton 1988;
Hessel et al. 2018). Prioritized replay (Schaul et al. 2016) is a setting of the replay (`replay.prioritized`); the priority is
|y - Q|. `munchausen` (Vieillard et al. 2020, eq. 7): with π = softmax(Q⁻ / τ), [x] clipped to l₀..0 and n-step returns R_n,

    y_t = α [τ log π(a_t|s_t)] + R_n + γ^n Σ_a π(a|s_{t+n}) (Q⁻(s_{t+n}, a) - τ log π(a|s_{t+n}))

Where we differ from the papers: the shipped configs use Adam (learning rate 1e-4 or 6.25e-5) instead of Nature's centred RMSProp,
because Adam did better in Dopamine's measurements; ε ends at 0.01; the Huber loss is averaged over the batch, not summed; the
dueling net does not rescale gradients by 1/sqrt(2); noise is sampled per row of a batch, not per batch; time limits bootstrap, only
terminal states do not.

Shapes: T time (= n + 1), B batch, A actions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlsuite.agents.value_based import ValueAgent, munchausen, set_noise, soft_policy, take, unpack
from rlsuite.core.agent import Loss, Net
from rlsuite.core.masks import masked
from rlsuite.core.types import State, Step, Trajectory
from rlsuite.nets.q_net import QNet


class DQN(ValueAgent):
    """DQN agent: one net gives Q(s, ·), trained off-policy on n-step transitions."""

    takes_munchausen = self_predicts = True

    def make_net(self) -> QNet:
        return self.extended(QNet(self.net_config, self.spec, 1, self.config.dueling, self.config.sigma, self.predicts))

    def q_values(self, net: Net, step: Step, state: State, rng: torch.Generator | None) -> tuple[Tensor, State]:
        q, state = net(step, state)  # [1,B,A,1]
        return q[0, ..., 0], state

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        start, end, returns, explore, rows = unpack(trajectory, self.config, rng)
        with torch.no_grad():
            set_noise(target, rows, explore)
            q_t = target(end, trajectory.state)[0][0, ..., 0]  # [B,A]
            selector, reward = q_t, returns.reward
            if self.config.double:
                set_noise(net, rows, explore)
                selector = net(end, trajectory.state)[0][0, ..., 0]  # [B,A]
            if self.config.munchausen:
                reward = reward + munchausen(target(start, trajectory.state)[0][0, ..., 0], start, self.config)
                pi, log_pi = soft_policy(q_t, end, self.config)  # [B,A], τ log π
                v_t = (pi * (q_t - log_pi)).sum(-1)  # [B]
            else:
                v_t = take(q_t, masked(selector, end).argmax(-1))  # [B]
            y = reward + returns.discount * v_t  # [B]

        set_noise(net, rows, explore)
        q_tm1 = take(net(start, trajectory.state)[0][0, ..., 0], start.action[0])  # [B]
        loss = F.huber_loss(q_tm1, y, reduction="none")  # [B]
        td = (y - q_tm1).detach().unsqueeze(0)  # [1,B]
        own = Loss(loss, td, {"losses/q_values": q_tm1.detach().mean(), "losses/td_error": td.abs().mean()})
        return self.plus_auxiliary(self.plus_self_prediction(own, net, target, trajectory), net, start.observation)
