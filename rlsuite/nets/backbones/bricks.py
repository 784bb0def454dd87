"""Building blocks of the backbones. Shapes: N images, C channels, H x W pixels."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlsuite.core import cpu
from rlsuite.core.errors import UsageError

NORMS = ("batch", "group", "layer", "instance", "none")
Size = int | tuple[int, int]  # of a kernel: one number for both sides, or (height, width)


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation. In channels_last it is three times as fast as GroupNorm with a group for each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W], normalised. UsageError for maps of 1x1, all of which would become 0."""
        if x.shape[-1] == x.shape[-2] == 1:
            raise UsageError(
                "instance normalisation of a feature map of 1x1 has no pixels to normalise over; use norm=group, or fewer strides"
            )
        return super().forward(x)


def norm_of(kind: str, channels: int, epsilon: float = 1e-5) -> nn.Module:
    """A normalisation layer for `channels` channels: batch, group, layer, instance or none.

    `group` has at most 32 groups (Wu & He 2018), `layer` normalises over the channels and pixels of an image, `instance` over the
    pixels of each channel (Ulyanov et al. 2016), which takes the contrast of an image out; with scales and offsets, as the others.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=epsilon)
    if kind == "none":
        return nn.Identity()
    if kind == "instance":
        return InstanceNorm(channels, eps=epsilon, affine=True)
    groups = {"group": math.gcd(channels, 32), "layer": 1}
    return nn.GroupNorm(groups[kind], channels, eps=epsilon)


def act_of(kind: str) -> nn.Module:
    """An activation: relu, relu6, silu, leaky (slope 0.1), leaky2 (slope 0.2) or none."""
    table: dict[str, Callable[[], nn.Module]] = {
        "relu": lambda: nn.ReLU(inplace=True),
        "relu6": lambda: nn.ReLU6(inplace=True),
        "silu": lambda: nn.SiLU(inplace=True),
        "leaky": lambda: nn.LeakyReLU(0.1, inplace=True),
        "leaky2": lambda: nn.LeakyReLU(0.2, inplace=True),
        "none": nn.Identity,
    }
    return table[kind]()


def conv_relu(convolution: nn.Conv2d, x: Tensor, added: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """relu(convolution(x) + added) of x [N,C,H,W]; `weight`: None: the convolution's own.

    On a CPU and without gradients oneDNN makes it in one operation, which rounds once and passes over the output once. For small
    nets, whose other operations take as long as a tenth of a convolution each, that saves a sixth.
    """
    weight, autocast = convolution.weight if weight is None else weight, torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else x.dtype
    if (
        torch.is_grad_enabled()
        or torch.compiler.is_exporting()
        or x.device.type != "cpu"
        or not x.dtype == weight.dtype == dtype
        or not _fused(dtype)
    ):
        found: Tensor = convolution._conv_forward(x, weight, convolution.bias)
        return F.relu_(found if added is None else found.add_(added))
    sizes = (list(pair) for pair in (convolution.padding, convolution.stride, convolution.dilation))
    call, settings = torch.ops.mkldnn._convolution_pointwise, (weight, convolution.bias, *sizes, convolution.groups)
    if added is None:
        return call.default(x, *settings, "relu", [], "")  # type: ignore[no-any-return]
    return call.binary(x, added, *settings, "add", 1.0, "relu", [], "")  # type: ignore[no-any-return]


class ConvReLU(nn.Sequential):
    """A convolution and its ReLU, made by `conv_relu`."""

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,C',H',W']."""
        convolution = self[0]
        assert isinstance(convolution, nn.Conv2d)
        return conv_relu(convolution, x)


@cache
def _fused(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's fused convolutions, which only its compiler documents, for `dtype` on this processor."""
    if dtype == torch.bfloat16 and not cpu.has_bf16():
        return False
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")  # type: ignore[no-untyped-call]


def plain_conv(i: int, o: int, kernel: Size = 3, stride: int = 1, *, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution whose padding keeps the size of the image at stride 1."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(i, o, (height, width), stride, (height // 2, width // 2), groups=groups, bias=bias)


class SpectralConv2d(nn.Conv2d):
    """A convolution by weights that are divided by their largest singular value (Miyato et al. 2018, algorithm 1).

    The weights [O,I,kH,kW] are taken as a matrix [O,I*kH*kW]. `u` [O], the estimate of its first left singular vector, makes one
    step of the power iteration in every pass with gradients, and none while acting. PyTorch's parametrization steps in every pass,
    so that an agent's moves would change the net that learns, and it hides the weights from `Precision`'s bf16 copies.
    """

    def __init__(self, i: int, o: int, kernel: int):
        """For an odd `kernel`, with the padding that keeps the size of the image."""
        super().__init__(i, o, kernel, padding=kernel // 2)
        u = torch.linalg.svd(self.weight.detach().flatten(1))[0][:, 0]  # [O]
        self.register_buffer("u", u.clone())
        self.u: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """x [N,I,H,W] -> [N,O,H,W]."""
        matrix = self.weight.float().flatten(1)  # [O,I*kH*kW]; no matrix products below, which autocast would round to bf16
        with torch.no_grad():
            v = F.normalize((matrix * self.u.unsqueeze(1)).sum(0), dim=0)  # [I*kH*kW]
            u = F.normalize((matrix * v).sum(1), dim=0)  # [O]
        if torch.is_grad_enabled() and not torch.compiler.is_exporting():
            self.u.copy_(u)
        weight = self.weight / (u.unsqueeze(1) * matrix * v).sum()
        return self._conv_forward(x, weight, self.bias)  # type: ignore[no-any-return]


class RectifiedConv2d(nn.Conv2d):
    """A convolution of local contrasts with a rectifier for both signs (Jarrett et al. 2009, R_abs and N), without a bias.

    The kernels have zero mean, and what they see of a patch is divided by the standard deviation of the patch, or by a tenth of
    the image's mean one if that is more. So the output, at least 0, is 0 where an image is constant. It is the same for an image,
    its negative, and every other linear change of brightness and contrast, and a faint object is seen as a bright one.
    """

    FLOOR = 0.1

    def __init__(self, i: int, o: int, kernel: int, stride: int):
        super().__init__(i, o, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [N,I,H,W] -> [N,O,H',W']."""
        x = x.float()  # in bf16 the squares of faint contrasts are lost
        x = (x - x.mean((1, 2, 3), keepdim=True)).contiguous()
        mean, square = (F.avg_pool2d(y.mean(1, keepdim=True), self.kernel_size, self.stride) for y in (x, x * x))  # [N,1,H',W']
        deviation = (square - mean * mean).clamp_min(0).sqrt()
        deviation = torch.maximum(deviation, self.FLOOR * deviation.mean((2, 3), keepdim=True)).clamp_min(1e-6)
        kernels = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, kernels, None).abs() / deviation  # type: ignore[no-any-return]


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
    """Convolution, normalisation, activation. `valid`: without padding.

    By default the convolution has a bias only without a normalisation, which would cancel it.
    """
    layer = plain_conv(i, o, kernel, stride, groups=groups, bias=norm == "none" if bias is None else bias)
    if valid:
        layer.padding = (0, 0)
    parts = [layer, *([] if norm == "none" else [norm_of(norm, o, epsilon)]), *([] if act == "none" else [act_of(act)])]
    return nn.Sequential(*parts)


def pre_conv(
    i: int, o: int, kernel: Size = 3, stride: int = 1, *, norm: str, act: bool = True, layer: nn.Conv2d | None = None
) -> nn.Sequential:
    """Normalisation, ReLU, convolution: the pre-activation order of He et al. 2016 (Identity Mappings).

    `layer`: the convolution, if it is not a plain one.
    """
    # ReLU may overwrite its input only if that is the result of the normalisation.
    first: list[nn.Module] = [] if norm == "none" else [norm_of(norm, i)]
    then = [nn.ReLU(inplace=norm != "none")] if act else []
    return nn.Sequential(*first, *then, layer or plain_conv(i, o, kernel, stride, bias=norm == "none"))


class Residual(nn.Module):
    """Residual block: ReLU(body(x) + shortcut(x)), where no `shortcut` means x itself, and `act` = False leaves out the ReLU.

    `entry`, if given, is applied first, and both branches take its output (pre-activation blocks that change the size).
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, act: bool = True, entry: nn.Module | None = None):
        super().__init__()
        self.entry = entry
        self.body = body
        self.shortcut = shortcut
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,C',H',W'], the shape of the two branches."""
        if self.entry is not None:
            x = self.entry(x)
        total: Tensor = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(total, inplace=True) if self.act else total


class Branches(nn.Module):
    """Parallel branches on the same input, concatenated along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,C',H',W'], C' being the sum over the branches."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class Excite(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): channels are scaled by factors computed from their averages over all pixels."""

    def __init__(self, channels: int, squeezed: int, act: str):
        super().__init__()
        self.down = nn.Conv2d(channels, squeezed, 1)
        self.act = act_of(act)
        self.up = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,C,H,W]."""
        return x * torch.sigmoid(self.up(self.act(self.down(x.mean((2, 3), keepdim=True)))))


class Widen(nn.Module):
    """Parameter-free shortcut (Han et al. 2017): pads with zero channels up to `channels`; at stride 2 averages 2x2 pixels."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """x [N,C,H,W] -> [N,`channels`,H/stride,W/stride], rounded up."""
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


def chain(parts: Sequence[nn.Module]) -> nn.Module:
    """The modules one after the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)
