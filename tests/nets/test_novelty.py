"""Novelty: running statistics, normalisation and bonuses by hand; what predictors see, learn and leave alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsuite.config.auxiliary import Bonus, ReconstructionError, Rnd
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec
from rlsuite.nets.novelty import CLIP, Moments, Novelty, make_novelty, maps_of
from rlsuite.nets.precision import Precision

PIXELS = EnvSpec((4, 44, 44), "uint8", num_actions=3, num_states=None, stack=4, frames_per_step=4)
VECTOR = EnvSpec((2,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)
STATES = EnvSpec((), "int64", num_actions=3, num_states=5, stack=1, frames_per_step=1)
KINDS: list[Bonus] = [Rnd(width=8), ReconstructionError(width=8, latent=3)]


def flags(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def test_moments_by_hand() -> None:
    one = Moments()
    one.update(torch.tensor([1.0, 3.0, 99.0]), flags([1, 1, 0])[0])  # what is not counted changes nothing
    assert float(one.mean) == pytest.approx(2, abs=1e-3)
    assert float(one.variance) == pytest.approx(1, abs=1e-3)
    one.update(torch.tensor([6.0, 6.0]), flags([1, 1])[0])  # of 1, 3, 6, 6
    assert float(one.mean) == pytest.approx(4, abs=1e-3)
    assert float(one.variance) == pytest.approx(4.5, abs=1e-3)
    assert float(one.count) == pytest.approx(4.0001)
    before = [tensor.clone() for tensor in one.buffers()]
    one.update(torch.tensor([7.0]), flags([0])[0])
    assert all(torch.equal(a, b) for a, b in zip(before, one.buffers(), strict=True))


def test_moments_of_batches_are_those_of_all() -> None:
    rng = np.random.default_rng(0)
    x, counted = rng.normal(3, 2, (40, 3, 2)).astype(np.float32), rng.random(40) < 0.7
    one = Moments((3, 2))
    for part in np.split(np.arange(40), [1, 7, 8, 30]):
        one.update(torch.from_numpy(x[part]), torch.from_numpy(counted[part]))
    np.testing.assert_allclose(one.mean, x[counted].mean(0), rtol=1e-3)
    np.testing.assert_allclose(one.variance, x[counted].var(0), rtol=1e-3)


class Sees(Novelty):
    """Its error is the sum of the normalised numbers that it sees, which it keeps."""

    def squared_error(self, x: Tensor) -> Tensor:
        self.x = x
        return x.flatten(1).sum(1)


def test_observations_are_normalised_and_clipped_by_hand() -> None:
    """Numbers 0 and 4: mean 2, deviation 2. Then 2 + 3 x 2 = 8 is 3 deviations away, and 100 is clipped to 5."""
    novelty = Sees(VECTOR, Bonus(), None)
    novelty.bonus(torch.tensor([[[0.0, 1.0], [4.0, 1.0]]]), flags([1, 1]), learning=True)
    torch.testing.assert_close(novelty.x[:, 0], torch.tensor([-1.0, 1.0]), rtol=1e-3, atol=1e-3)
    novelty(torch.tensor([[[8.0, 1.0], [100.0, 1.0], [-100.0, 1.0]]]))
    torch.testing.assert_close(novelty.x[:, 0], torch.tensor([3.0, CLIP, -CLIP]), rtol=1e-3, atol=1e-3)


class Errors(Novelty):
    """Errors are the observations' first number."""

    def forward(self, observation: Tensor) -> Tensor:
        return observation[..., 0]


def observed(*rows: list[float]) -> Tensor:
    errors = torch.tensor(rows)
    return torch.stack([errors, errors], -1)  # [T,B,2]


def test_bonuses_are_divided_by_the_deviation_of_errors_by_hand() -> None:
    """Errors 1, 3 and 8 (mean 4, variance 26/3); an error that is not counted is neither a bonus nor among them."""
    novelty = Errors(VECTOR, Bonus(), None)
    bonus = novelty.bonus(observed([1.0, 3.0], [50.0, 8.0]), flags([1, 1], [0, 1]), learning=True)
    expected = torch.tensor([[1.0, 3.0], [0.0, 8.0]]) / (26 / 3) ** 0.5
    torch.testing.assert_close(bonus, expected, rtol=1e-3, atol=1e-3)
    before = [tensor.clone() for tensor in novelty.buffers()]
    looked = novelty.bonus(observed([1.0, 3.0], [50.0, 8.0]), flags([1, 1], [0, 1]), learning=False)
    torch.testing.assert_close(looked, bonus)
    assert all(torch.equal(a, b) for a, b in zip(before, novelty.buffers(), strict=True))


def test_bonuses_are_divided_by_the_deviation_of_their_discounted_sums_by_hand() -> None:
    """γ = 1/2. The sums go on where an observation does not count, and the next rollout begins with the mean of the last ones."""
    novelty = Errors(VECTOR, Bonus(), 0.5)
    seen, counted = observed([4.0, 0.0], [2.0, 100.0], [8.0, 6.0]), flags([1, 1], [1, 0], [1, 1])
    sums = [4, 0.5 * 4 + 2, 0.5 * 4 + 8, 0, 0.5 * 0 + 6]  # of the first environment; of the second, whose second does not count
    bonus = novelty.bonus(seen, counted, learning=True)
    torch.testing.assert_close(bonus[:, 0], torch.tensor([4.0, 2.0, 8.0]) / float(np.std(sums)), rtol=1e-3, atol=1e-3)
    assert bonus[1, 1] == 0
    assert float(novelty.sum) == (10 + 6) / 2
    sums += [0.5 * 8 + 1, 0.5 * 8 + 3]
    bonus = novelty.bonus(observed([1.0, 3.0]), flags([1, 1]), learning=True)
    torch.testing.assert_close(bonus[0], torch.tensor([1.0, 3.0]) / float(np.std(sums)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settings", KINDS)
def test_a_predictor_learns_what_it_sees_and_finds_other_things_new(settings: Bonus) -> None:
    torch.manual_seed(0)
    novelty = make_novelty(VECTOR, settings, None)
    known, new = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    novelty.seen.update(torch.cat([known, new], 1)[0], torch.ones(4, dtype=torch.bool))
    optimizer = torch.optim.Adam([p for p in novelty.parameters() if p.requires_grad], 1e-2)
    fixed = {name: p.clone() for name, p in novelty.named_parameters() if name.startswith("fixed.")}
    assert bool(fixed) == isinstance(settings, Rnd)
    for _ in range(300):
        optimizer.zero_grad()
        novelty(known).mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert float(novelty(new).mean()) > 10 * float(novelty(known).mean())
    assert all(torch.equal(novelty.get_parameter(name), p) for name, p in fixed.items())


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (PIXELS, (1, 44, 44)),  # the newest plane
        (PIXELS._replace(stack=1), (4, 44, 44)),
        (PIXELS._replace(observation_shape=(3, 9, 9), stack=1), (3, 9, 9)),  # too small for convolutions
        (VECTOR, (2,)),
        (VECTOR._replace(observation_shape=(2, 3)), (2, 3)),
    ],
)
def test_it_takes_observations_of_every_shape(settings: Bonus, spec: EnvSpec, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    novelty = make_novelty(spec, settings, None)
    assert novelty.seen.mean.shape == shape
    seen = 200 * torch.rand(2, 3, *spec.observation_shape)
    seen = seen.to(torch.uint8) if spec.observation_dtype == "uint8" else seen
    bonus = novelty.bonus(seen, torch.ones(2, 3, dtype=torch.bool), learning=True)
    assert bonus.shape == (2, 3)
    assert torch.isfinite(bonus).all()
    novelty(seen).mean().backward()
    assert all((p.grad is not None) == p.requires_grad for p in novelty.parameters())
    if spec.stack > 1:  # older planes change nothing
        changed = seen.clone()
        changed[:, :, :-1] = 0
        assert torch.equal(novelty(changed), novelty(seen))


def test_states_are_one_hot_for_rnd_and_nothing_to_make_again() -> None:
    novelty = make_novelty(STATES, Rnd(width=4), None)
    assert novelty.bonus(torch.tensor([[0, 4, 4]]), flags([1, 1, 1]), learning=True).shape == (1, 3)
    torch.testing.assert_close(novelty.seen.mean, torch.tensor([1 / 3, 0, 0, 0, 2 / 3]), rtol=1e-3, atol=1e-3)
    with pytest.raises(UsageError, match=r"^agent\.novelty=reconstruction: observations are numbers of states, which no decoder"):
        make_novelty(STATES, ReconstructionError(), None)
    parts = PIXELS._replace(observation_shape=(44 * 44 + 8,), stack=1, picture=(1, 44, 44))
    with pytest.raises(UsageError, match=r"^agent\.novelty: observations are pictures with numbers beside them"):
        make_novelty(parts, Rnd(), None)


def test_the_maps_of_the_convolutions() -> None:
    assert maps_of((1, 84, 84)) == [(32, 20, 20), (64, 9, 9), (64, 7, 7)]
    assert maps_of((1, 36, 36)) == [(32, 8, 8), (64, 3, 3), (64, 1, 1)]
    assert maps_of((1, 35, 36)) is None
    assert maps_of((3, 2, 2)) is None
    assert maps_of((7,)) is None


def test_it_computes_in_fp32_in_a_bf16_net() -> None:
    net: Any = torch.nn.Module()
    net.novelty = make_novelty(VECTOR, Rnd(width=8), None)
    net.other = torch.nn.Linear(2, 2)
    low = Precision(net, bf16=True).net
    seen = torch.rand(2, 3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert low.other(seen).dtype == torch.bfloat16
        assert torch.equal(low.novelty(seen), net.novelty(seen))
        assert low.novelty(seen).dtype == torch.float32
    assert low.novelty.seen.mean is net.novelty.seen.mean  # statistics are shared
