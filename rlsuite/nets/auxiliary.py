"""Reconstruction of observations from a torso's features. Shapes: T time, B batch, N observations, D features."""

from torch import Tensor, nn

from rlsuite.config.auxiliary import Reconstruct
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec
from rlsuite.nets.decoders import Decoder, DenseDecoder
from rlsuite.nets.torso import PixelTorso, Torso

BESIDE = ("auxiliary.", "novelty.", "bonus_value.")  # name prefixes of modules that only help a net to learn


class Reconstruction(nn.Module):
    """A dense layer from the features of a torso to a code, and a decoder from the code to the observation.

    The decoder of pictures mirrors the torso's backbone; that of vectors has two dense layers.
    """

    def __init__(self, torso: Torso, spec: EnvSpec, settings: Reconstruct):
        """UsageError for observations that are neither pictures nor vectors."""
        super().__init__()
        refuse_undecodable(spec, "net.auxiliary=reconstruct")
        self.weight = settings.weight
        self.bytes = spec.observation_dtype == "uint8"
        self.encoder = nn.Linear(torso.features, settings.latent)
        pixels = next((module for module in torso.modules() if isinstance(module, PixelTorso)), None)
        shape = spec.observation_shape
        self.decoder: nn.Module = (
            DenseDecoder(settings.latent, shape)
            if pixels is None
            else Decoder(settings.latent, pixels.backbone.shapes(*shape[1:]), shape, norm="none")
        )

    def forward(self, features: Tensor, observation: Tensor) -> Tensor:
        """Mean squared errors [T,B] f32 of reconstructing observations [T,B,*shape] (bytes as [0,1]) from features [T,B,D]."""
        made = self.decoder(self.encoder(features.flatten(0, 1)))  # [N,*shape]
        true = observation.flatten(0, 1).float()
        if self.bytes:
            made, true = made.sigmoid(), true / 255
        return (made - true).square().flatten(1).mean(1).unflatten(0, features.shape[:2])  # type: ignore[no-any-return]


def refuse_undecodable(spec: EnvSpec, what: str) -> None:
    """Raises a UsageError that begins with `what` for observations that no decoder can reconstruct."""
    seen = "numbers of states" if spec.num_states is not None else "pictures with numbers beside them" if spec.picture else None
    if seen is not None:
        raise UsageError(f"{what}: observations are {seen}, which no decoder makes again; it takes pictures or vectors")


def torso_of(net: nn.Module) -> Torso:
    """The torso of a net; the policy's, if it has two. UsageError if it has none."""
    found = next((module for module in net.modules() if isinstance(module, Torso)), None)
    if found is None:
        raise UsageError(f"net.auxiliary needs a net with a torso: {type(net).__name__} has none")
    return found
