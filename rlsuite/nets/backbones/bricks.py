"""What the nets are laid of. Shapes: N images, C channels, H x W pixels."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = ("batch", "group", "layer", "none")
Size = int | tuple[int, int]  # of a kernel: both sides, or (height, width)


def norm_of(kind: str, channels: int, epsilon: float = 1e-5) -> nn.Module:
    """`group`: of at most 32 groups (Wu & He 2018); `layer`: over channels and pixels of one image; `none`: nothing."""
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=epsilon)
    if kind == "none":
        return nn.Identity()
    return nn.GroupNorm(1 if kind == "layer" else math.gcd(channels, 32), channels, eps=epsilon)


def act_of(kind: str) -> nn.Module:
    table: dict[str, Callable[[], nn.Module]] = {
        "relu": lambda: nn.ReLU(inplace=True),
        "relu6": lambda: nn.ReLU6(inplace=True),
        "silu": lambda: nn.SiLU(inplace=True),
        "leaky": lambda: nn.LeakyReLU(0.1, inplace=True),
        "none": nn.Identity,
    }
    return table[kind]()


def plain_conv(i: int, o: int, kernel: Size = 3, stride: int = 1, *, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """Of the same size at stride 1."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(i, o, (height, width), stride, (height // 2, width // 2), groups=groups, bias=bias)


def conv(
    i: int,
    o: int,
    kernel: Size = 3,
    stride: int = 1,
    *,
    norm: str,
    act: str = "relu",
    groups: int = 1,
    bias: bool | None = None,
    valid: bool = False,
    epsilon: float = 1e-5,
) -> nn.Sequential:
    """Convolution, normalisation, activation. By default it has a bias where no normalisation would take it away again.

    `valid`: without padding.
    """
    layer = plain_conv(i, o, kernel, stride, groups=groups, bias=norm == "none" if bias is None else bias)
    if valid:
        layer.padding = (0, 0)
    parts = [layer, *([] if norm == "none" else [norm_of(norm, o, epsilon)]), *([] if act == "none" else [act_of(act)])]
    return nn.Sequential(*parts)


def pre_conv(i: int, o: int, kernel: Size = 3, stride: int = 1, *, norm: str, act: bool = True) -> nn.Sequential:
    """Normalisation, ReLU, convolution: the order of He et al. 2016 (Identity Mappings)."""
    # The activation may write over its input only where that is the normalisation's own result.
    first: list[nn.Module] = [] if norm == "none" else [norm_of(norm, i)]
    then = [nn.ReLU(inplace=norm != "none")] if act else []
    return nn.Sequential(*first, *then, plain_conv(i, o, kernel, stride, bias=norm == "none"))


class Residual(nn.Module):
    """act(body(x) + shortcut(x)); `shortcut` None is x itself, `act` False leaves the sum as it is.

    `entry`, if given, is applied first, and both branches begin behind it (pre-activation where the size changes).
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, act: bool = True, entry: nn.Module | None = None):
        super().__init__()
        self.entry = entry
        self.body = body
        self.shortcut = shortcut
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        if self.entry is not None:
            x = self.entry(x)
        total: Tensor = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(total, inplace=True) if self.act else total


class Branches(nn.Module):
    """All see the same x; their results lie one behind the other in the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Excite(nn.Module):
    """Squeeze and excitation: channels weighed by what all pixels say (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int, act: str):
        super().__init__()
        self.down = nn.Conv2d(channels, squeezed, 1)
        self.act = act_of(act)
        self.up = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(self.act(self.down(x.mean((2, 3), keepdim=True)))))


class Widen(nn.Module):
    """Zeros behind the channels until there are `channels`; halves the pixels by averaging if `stride` is 2 (Han et al. 2017)."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


def chain(parts: Sequence[nn.Module]) -> nn.Module:
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)
