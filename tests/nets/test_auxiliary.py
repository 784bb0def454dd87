"""Observations are made again from a torso's features: shapes, the error by hand, gradients, and what no decoder can make."""

from typing import Any

import pytest
import torch
from torch import nn

from rlsuite.config.auxiliary import Reconstruct
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec
from rlsuite.nets.auxiliary import Reconstruction, torso_of
from rlsuite.nets.decoders import Decoder, DenseDecoder
from rlsuite.nets.torso import make_torso

PIXELS = EnvSpec((4, 44, 44), "uint8", num_actions=3, num_states=None, stack=4, frames_per_step=4)
SMALL = PIXELS._replace(observation_shape=(2, 3, 3), stack=1)
VECTOR = EnvSpec((5,), "float32", num_actions=3, num_states=None, stack=1, frames_per_step=1)


@pytest.mark.parametrize(
    ("torso", "spec", "decoder"),
    [
        ("small", PIXELS, Decoder),
        ("impala", PIXELS, Decoder),
        ("small(pool=gap)", PIXELS, Decoder),
        ("tower(width=4,depth=1)", SMALL, Decoder),
        ("mlp", SMALL, DenseDecoder),
        ("mlp", VECTOR, DenseDecoder),
    ],
)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_errors_of_every_observation_reach_the_torso(torso: str, spec: EnvSpec, decoder: type[nn.Module], layer_norm: bool) -> None:
    torch.manual_seed(0)
    made = make_torso(torso, 8, spec, layer_norm)
    auxiliary = Reconstruction(made, spec, Reconstruct(latent=6))
    assert isinstance(auxiliary.decoder, decoder)
    seen = torch.rand(2, 3, *spec.observation_shape)
    seen = (255 * seen).to(torch.uint8) if spec.observation_dtype == "uint8" else seen
    error = auxiliary(made(seen), seen)
    assert error.shape == (2, 3)
    assert (error > 0).all()
    error.sum().backward()
    for module in (made, auxiliary):
        assert all(p.grad is not None for p in module.parameters())
        assert any(bool(p.grad.abs().sum() > 0) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("floats", [False, True])
def test_the_error_by_hand(floats: bool) -> None:
    """A picture is the sigmoid of what the decoder makes, and 255 is white, also where bytes have become floats."""
    auxiliary = Reconstruction(make_torso("mlp", 4, SMALL), SMALL, Reconstruct())
    made = torch.zeros(2, 2, 3, 3)  # grey: sigmoid(0) = 1/2
    auxiliary.decoder = Given(made)
    seen = torch.full((1, 2, 2, 3, 3), 255, dtype=torch.uint8)
    seen[0, 1] = 0
    seen[0, 1, 0, 0, 0] = 51  # a fifth
    found = auxiliary(torch.zeros(1, 2, 4), seen.float() if floats else seen)
    torch.testing.assert_close(found, torch.tensor([[0.25, (17 * 0.25 + 0.09) / 18]]))


class Given(nn.Module):
    def __init__(self, made: torch.Tensor):
        super().__init__()
        self.made = made

    def forward(self, code: Any) -> torch.Tensor:
        return self.made


def test_vectors_are_made_as_they_are() -> None:
    auxiliary = Reconstruction(make_torso("mlp", 4, VECTOR), VECTOR, Reconstruct())
    auxiliary.decoder = Given(torch.tensor([[1.0, 2, 3, 4, 5]]))
    found = auxiliary(torch.zeros(1, 1, 4), torch.tensor([[[1.0, 2, 3, 4, -5]]]))
    assert found.tolist() == [[20.0]]


@pytest.mark.parametrize(
    ("spec", "seen"),
    [
        (VECTOR._replace(observation_shape=(), observation_dtype="int64", num_states=7), "numbers of states"),
        (PIXELS._replace(observation_shape=(44 * 44 + 8,), stack=1, picture=(1, 44, 44)), "pictures with numbers beside them"),
    ],
)
def test_what_no_decoder_makes_is_refused(spec: EnvSpec, seen: str) -> None:
    torso = make_torso("mlp" if spec.num_states else "small", 4, spec)
    with pytest.raises(UsageError, match=rf"^net\.auxiliary=reconstruct: observations are {seen}, which no decoder makes again"):
        Reconstruction(torso, spec, Reconstruct())


def test_a_net_without_a_torso_is_refused() -> None:
    with pytest.raises(UsageError, match=r"net\.auxiliary needs a net with a torso: Linear has none"):
        torso_of(nn.Linear(1, 1))
