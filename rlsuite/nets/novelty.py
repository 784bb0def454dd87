"""Bonuses for novel observations: the errors of a predictor that learns from the observations that the agent meets.

    rnd             |p(x) - f(x)|²    f: a fixed random net, p: the predictor (Burda et al. 2018)
    reconstruction  |d(e(x)) - x|²    an autoencoder

x is the observation (the newest plane of a frame stack), normalised by running means and standard deviations and clipped to ±5
(section 2.4). Errors are means over outputs. A bonus is the error divided by a running standard deviation: if bonuses have their
own value, that of discounted sums of errors, as in the paper; if they are added to rewards, that of errors, because a replay's
batches are not in an order of time in which errors could be summed.

Where we differ: the running statistics begin with the first batch, not with random play.

Shapes: T time, B batch, N observations, F features.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.config.auxiliary import Bonus, ReconstructionError, Rnd
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec
from rlsuite.nets.auxiliary import refuse_undecodable
from rlsuite.nets.decoders import Decoder, DenseDecoder
from rlsuite.nets.precision import keep_fp32
from rlsuite.nets.torso import orthogonal_

CLIP = 5.0  # of normalised observations
CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, kernel, stride


class Moments(nn.Module):
    """Running mean and variance of numbers or arrays (Chan et al. 1979), as buffers.

    They start as if from 1e-4 samples of mean 0 and variance 1, as in the code of the RND paper.
    """

    def __init__(self, shape: Sequence[int] = ()):
        super().__init__()
        self.mean: Tensor
        self.variance: Tensor
        self.count: Tensor
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("variance", torch.ones(tuple(shape)))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    def update(self, x: Tensor, counted: Tensor) -> None:
        """Updates mean and variance with those of x [N,*shape] that are `counted` [N] bool."""
        number = counted.sum()
        share = (counted / number.clamp(min=1)).view(-1, *[1] * (x.dim() - 1))  # [N,1,...] weight of each in the batch
        mean = (x * share).sum(0)
        variance = ((x - mean).square() * share).sum(0)
        total = self.count + number
        new = (number / total).float()  # weight of the batch
        moved = mean - self.mean
        self.variance.copy_((1 - new) * self.variance + new * variance + new * (1 - new) * moved.square())
        self.mean.add_(new * moved)
        self.count.copy_(total)

    def deviation(self) -> Tensor:
        """The running standard deviation."""
        return self.variance.sqrt()


class Novelty(nn.Module):
    """Base class of novelty bonuses: normalises observations and bonuses. A subclass implements the predictor's `squared_error`."""

    def __init__(self, spec: EnvSpec, settings: Bonus, discount: float | None):
        """`discount`: of sums of errors; bonuses are divided by these sums' deviation. None: by the deviation of errors."""
        super().__init__()
        keep_fp32(self)  # in bf16 small errors would be noise
        self.num_states, self.stacked = spec.num_states, spec.stack > 1
        self.weight, self.discount = settings.weight, discount
        shape = spec.observation_shape
        self.shape = (spec.num_states,) if spec.num_states is not None else (1, *shape[1:]) if self.stacked else shape
        self.seen = Moments(self.shape)
        self.size = Moments()
        self.sum: Tensor
        self.register_buffer("sum", torch.zeros(()))  # the discounted sum at the end of the last rollout, a mean over its columns

    def squared_error(self, x: Tensor) -> Tensor:
        """The predictor's mean squared errors [N] for normalised observations [N,*shape], with gradients."""
        raise NotImplementedError

    def forward(self, observation: Tensor) -> Tensor:
        """The predictor's mean squared errors [T,B] f32 for observations [T,B,...], with gradients."""
        x = self._plain(observation).flatten(0, 1)  # [N,*shape]
        with torch.autocast(x.device.type, enabled=False):
            x = (x - self.seen.mean) / (self.seen.variance + 1e-8).sqrt()
            return self.squared_error(x.clamp(-CLIP, CLIP)).view(observation.shape[:2])

    def bonus(self, observation: Tensor, counted: Tensor, learning: bool) -> Tensor:
        """The bonuses [T,B] for observations [T,B,...], 0 where they are not `counted` [T,B] bool.

        `learning`: first update the running statistics with the observations and errors.
        """
        if learning:
            self.seen.update(self._plain(observation).flatten(0, 1), counted.flatten())
        error: Tensor = self(observation) * counted  # [T,B]
        if learning:
            self.size.update((error if self.discount is None else self._sums(error, counted)).flatten(), counted.flatten())
        return error / (self.size.deviation() + 1e-8)

    def _sums(self, error: Tensor, counted: Tensor) -> Tensor:
        """Discounted sums of errors up to each step, [T,B], which continue across episode ends (section 2.4).

        They start from the mean over the columns of the last rollout, because a batch does not say which column continues which.
        """
        assert self.discount is not None
        total, found = self.sum.expand(error.shape[1:]), []
        for new, there in zip(error, counted, strict=True):
            total = torch.where(there, self.discount * total + new, total)
            found.append(total)
        self.sum.copy_(total.mean())
        return torch.stack(found)

    def _plain(self, observation: Tensor) -> Tensor:
        """Observations [T,B,...] as f32 [T,B,*shape]: the newest plane of a stack, bytes scaled to [0,1], states one-hot."""
        if self.num_states is not None:
            return F.one_hot(observation.long(), self.num_states).float()
        newest = observation[:, :, -1:] if self.stacked else observation
        return newest.float() / 255 if newest.dtype == torch.uint8 else newest.float()


class RandomNet(Novelty):
    """Random network distillation: bonuses from the error in predicting a random net's output."""

    def __init__(self, spec: EnvSpec, settings: Rnd, discount: float | None):
        super().__init__(spec, settings, discount)
        width = settings.width
        fixed, features = trunk(self.shape, width)
        self.fixed = nn.Sequential(*fixed, nn.Linear(features, width))
        learned, _ = trunk(self.shape, width)
        hidden = (nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.predictor = nn.Sequential(*learned, *hidden, nn.Linear(width, width))
        orthogonal_(self)
        self.fixed.requires_grad_(False)

    def squared_error(self, x: Tensor) -> Tensor:
        return (self.predictor(x) - self.fixed(x)).square().mean(1)  # type: ignore[no-any-return]


class Autoencoder(Novelty):
    """Bonuses from the error of an autoencoder in reconstructing the normalised observation."""

    def __init__(self, spec: EnvSpec, settings: ReconstructionError, discount: float | None):
        """UsageError for observations that are neither pictures nor vectors."""
        refuse_undecodable(spec, "agent.novelty=reconstruction")
        super().__init__(spec, settings, discount)
        layers, features = trunk(self.shape, settings.width)
        self.encoder = nn.Sequential(*layers, nn.Linear(features, settings.latent))
        maps = maps_of(self.shape)
        self.decoder: nn.Module = (
            DenseDecoder(settings.latent, self.shape, settings.width)
            if maps is None
            else Decoder(settings.latent, maps, self.shape, norm="none")
        )

    def squared_error(self, x: Tensor) -> Tensor:
        return (self.decoder(self.encoder(x)) - x).square().flatten(1).mean(1)  # type: ignore[no-any-return]


def maps_of(shape: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """Shapes (C,H,W) of the maps of `CONVOLUTIONS` for pictures of `shape`; None for vectors and pictures too small."""
    if len(shape) != 3:
        return None
    found, (height, width) = [], shape[1:]
    for channels, kernel, stride in CONVOLUTIONS:
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        found.append((channels, height, width))
    return found if height > 0 and width > 0 else None


def trunk(shape: Sequence[int], width: int) -> tuple[list[nn.Module], int]:
    """The first layers of a net for x [N,*shape], and their F features: `CONVOLUTIONS`, or a dense layer of `width` units."""
    maps = maps_of(shape)
    if maps is None:
        return [nn.Flatten(), nn.Linear(math.prod(shape), width), nn.LeakyReLU(0.2)], width
    layers: list[nn.Module] = []
    for before, (channels, kernel, stride) in zip([shape[0], *(each[0] for each in maps)], CONVOLUTIONS, strict=False):
        layers += [nn.Conv2d(before, channels, kernel, stride), nn.LeakyReLU(0.2)]
    return [*layers, nn.Flatten()], math.prod(maps[-1])


def make_novelty(spec: EnvSpec, settings: Bonus, discount: float | None) -> Novelty:
    """The module for the `settings` of `agent.novelty`; `discount`: see `Novelty`. UsageError for unsupported observations."""
    if spec.picture is not None:
        raise UsageError("agent.novelty: observations are pictures with numbers beside them, which it cannot take")
    if isinstance(settings, Rnd):
        return RandomNet(spec, settings, discount)
    assert isinstance(settings, ReconstructionError)
    return Autoencoder(spec, settings, discount)
