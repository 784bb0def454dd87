"""The residual tower of AlphaZero (Silver et al. 2017, Methods), which keeps the size of the board."""

from torch import Tensor, nn

from rlsuite.nets.backbones.base import Backbone
from rlsuite.nets.backbones.bricks import conv_relu, norm_of


class TowerBlock(nn.Module):
    """Residual block of two 3x3 convolutions, by default without normalisation.

    The second convolution starts at 0, so a new block is the identity (Zhang et al. 2019, Fixup). Without batch statistics, acting
    and learning use the same net, and the output for a position does not depend on the others in its batch.
    """

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = norm_of(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = norm_of(norm, channels)
        self.act = nn.ReLU(inplace=True)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,C,H,W]."""
        if isinstance(self.norm1, nn.Identity):
            return conv_relu(self.conv2, conv_relu(self.conv1, x), x)
        inner: Tensor = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(inner.add_(x))  # type: ignore[no-any-return]


def tower(in_channels: int, norm: str = "none", width: int = 32, depth: int = 4) -> Backbone:
    """A 3x3 convolution to `width` channels, then `depth` residual blocks. The paper has 256 channels and 19 blocks."""
    first = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), norm_of(norm, width), nn.ReLU(inplace=True))
    return Backbone([first, *(TowerBlock(width, norm) for _ in range(depth))], in_channels)
