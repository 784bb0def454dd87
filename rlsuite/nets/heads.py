"""Heads, which map features [T,B,D] to the outputs of an agent. Shapes: A actions, N outputs per action (atoms, quantiles).

The hidden layer runs in the autocast dtype, the last layer always in fp32: in bf16 two Q-values that differ by less than
0.4% would be equal, and actions often differ by less.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from rlsuite.nets.precision import keep_fp32

Linear = Callable[[int, int], nn.Module]


class NoisyLinear(nn.Module):
    """Dense layer with factorised Gaussian noise on its weights and biases (Fortunato et al. 2018, section 3.1 b).

    ε_ij = f(ε_i) f(ε_j), f(x) = sign(x) sqrt|x|, so (σ_w ∘ ε) x = f(ε_out) ∘ σ_w (f(ε_in) ∘ x): every row of a batch gets its
    own noise at the cost of a second matrix product. The noise stays until `resample_noise` or `clear_noise` is called.
    """

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5):
        super().__init__()
        bound = in_features**-0.5
        self.mean = nn.Linear(in_features, out_features)
        nn.init.uniform_(self.mean.weight, -bound, bound)
        nn.init.uniform_(self.mean.bias, -bound, bound)
        self.sigma = nn.Linear(in_features, out_features)
        nn.init.constant_(self.sigma.weight, sigma * bound)
        nn.init.constant_(self.sigma.bias, sigma * bound)
        self.noise: tuple[Tensor, Tensor] | None = None  # f(ε_in) [B,in], f(ε_out) [B,out]

    def forward(self, x: Tensor) -> Tensor:
        """x [...,B,in] -> [...,B,out]; if there is no noise, with the mean weights alone."""
        y = self.mean(x)
        if self.noise is None:
            return y  # type: ignore[no-any-return]
        noise_in, noise_out = self.noise
        return y + noise_out.to(y.dtype) * self.sigma(noise_in.to(x.dtype) * x)  # type: ignore[no-any-return]


def resample_noise(net: nn.Module, batch: int, rng: torch.Generator) -> None:
    """Draws new noise for all noisy layers of `net`, a different one for each of the `batch` rows of the next batches."""
    for module in net.modules():
        if isinstance(module, NoisyLinear):
            device = module.mean.weight.device
            shape_in, shape_out = module.mean.in_features, module.mean.out_features
            noise = torch.randn(batch, shape_in + shape_out, generator=rng, device=device)  # [B,in+out]
            noise = noise.sign() * noise.abs().sqrt()
            module.noise = noise[:, :shape_in], noise[:, shape_in:]


def clear_noise(net: nn.Module) -> None:
    """Removes the noise from all noisy layers of `net`: they use their mean weights, as in evaluation."""
    for module in net.modules():
        if isinstance(module, NoisyLinear):
            module.noise = None


class Mlp(nn.Module):
    """A hidden layer with ReLU and an output layer in fp32: features [T,B,D] -> [T,B,out] f32."""

    def __init__(self, features: int, hidden: int, out: int, linear: Linear = nn.Linear, layer_norm: bool = False):
        super().__init__()
        self.hidden = linear(features, hidden)
        self.norm = nn.LayerNorm(hidden) if layer_norm else nn.Identity()
        self.out = keep_fp32(linear(hidden, out))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.hidden(x))).float()
        with torch.autocast(h.device.type, enabled=False):
            return self.out(h)  # type: ignore[no-any-return]


class QHead(nn.Module):
    """Action values with N outputs per action. Dueling (Wang et al. 2016, eq. 9): V + A - mean_a A, for each output."""

    def __init__(
        self,
        features: int,
        hidden: int,
        num_actions: int,
        outputs: int = 1,
        dueling: bool = False,
        noisy_sigma: float | None = None,
        layer_norm: bool = False,
        predicts: bool = False,
    ):
        """`predicts`: add a predictor of projections, for the self-predictive loss."""
        super().__init__()
        linear: Linear = nn.Linear if noisy_sigma is None else partial(NoisyLinear, sigma=noisy_sigma)
        self.shape = (num_actions, outputs)
        self.advantage = Mlp(features, hidden, num_actions * outputs, linear, layer_norm)
        self.value = Mlp(features, hidden, outputs, linear, layer_norm) if dueling else None
        self.predictor = nn.Linear(hidden * (1 + dueling), hidden * (1 + dueling)) if predicts else None

    def forward(self, x: Tensor) -> Tensor:
        """features x [T,B,D] -> [T,B,A,N] f32."""
        advantage = self.advantage(x).unflatten(-1, self.shape)  # [T,B,A,N]
        if self.value is None:
            return advantage  # type: ignore[no-any-return]
        value = self.value(x).unsqueeze(-2)  # [T,B,1,N]
        return value + advantage - advantage.mean(-2, keepdim=True)  # type: ignore[no-any-return]

    def project(self, x: Tensor) -> Tensor:
        """features x [T,B,D] -> projections [T,B,P]: the hidden layers of both streams, before their ReLU."""
        streams = [self.advantage] if self.value is None else [self.advantage, self.value]
        return torch.cat([stream.hidden(x) for stream in streams], -1)

    def predict(self, x: Tensor) -> Tensor:
        """features x [T,B,D] -> predicted projections [T,B,P]. Only with `predicts`."""
        assert self.predictor is not None
        return self.predictor(self.project(x))  # type: ignore[no-any-return]


class CosineEmbedding(nn.Module):
    """The embedding φ(τ) of IQN (Dabney et al. 2018b, eq. 4): cos(π i τ) for i = 0..n-1, then a linear layer and ReLU."""

    def __init__(self, features: int, cosines: int = 64):
        super().__init__()
        self.linear = nn.Linear(cosines, features)
        self.register_buffer("frequencies", torch.pi * torch.arange(cosines), persistent=False)
        self.frequencies: Tensor

    def forward(self, tau: Tensor) -> Tensor:
        """tau [...] f32 in (0,1) -> [...,D]."""
        return torch.relu(self.linear(torch.cos(tau.unsqueeze(-1) * self.frequencies)))
