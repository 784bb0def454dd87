"""The base class of heads."""

from collections.abc import Callable

from torch import Tensor, nn

from rlsuite.core.agent import Part
from rlsuite.vision.data import Pictures
from rlsuite.vision.necks import Maps

Embed = Callable[[Tensor], Maps]  # the maps of images [N,C,H,W], uint8 or f32 in [0,1]


class Head(nn.Module):
    """Base class of heads, with which a model learns and predicts: `losses(maps, images, labels)` and `predict(maps, images)`.

    If it `embeds`, it sends pictures through the backbone itself: its methods get the argument `embed`, and no maps.
    """

    embeds = False

    def parts(self, rest: tuple[nn.Module, ...]) -> dict[str, Part]:
        """The parts of the model that learn in turn, as in `Objective.parts`; `rest`: backbone and neck.

        The `losses` of a head with several parts get the argument `part`.
        """
        return {"": Part((*rest, self))}

    def check_labels(self, pictures: Pictures) -> None:
        """UsageError if it cannot learn the labels of the training pictures."""
