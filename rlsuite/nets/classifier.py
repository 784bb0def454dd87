"""Classifier heads for the last feature map of a backbone. Shapes: N images, K classes."""

from collections.abc import Sequence

from torch import Tensor, nn

from rlsuite.nets.backbones import BACKBONES, Backbone, make_backbone


class Linear(nn.Module):
    """Global average pooling and a dense layer (Lin et al. 2014): x [N,C,H,W] f32 -> logits [N,K]."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


class Dense(nn.Module):
    """Dense layers on the feature map, average-pooled to `grid` x `grid`: x [N,C,H,W] f32 -> logits [N,K]."""

    def __init__(self, channels: int, classes: int, grid: int, widths: Sequence[int], dropout: float):
        super().__init__()
        parts: list[nn.Module] = [nn.AdaptiveAvgPool2d(grid), nn.Flatten()]
        i = channels * grid**2
        for width in widths:
            parts += [nn.Dropout(dropout), nn.Linear(i, width), nn.ReLU(inplace=True)]
            i = width
        self.net = nn.Sequential(*parts, nn.Linear(i, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class Conv(nn.Module):
    """A 1x1 convolution to one map per class, averaged over the pixels (Iandola et al. 2016): x [N,C,H,W] f32 -> logits [N,K]."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(channels, classes, 1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean((2, 3))  # type: ignore[no-any-return]


def make_classifier(kind: str, channels: int, classes: int) -> nn.Module:
    """A classifier as it was published with a backbone; `kind` is the `head` of the backbone's `Entry`."""
    if kind == "alexnet":
        return Dense(channels, classes, 6, (4096, 4096), 0.5)
    if kind == "vgg":
        return Dense(channels, classes, 7, (4096, 4096), 0.5)
    if kind == "lenet":
        return Dense(channels, classes, 5, (120, 84), 0.0)
    return Conv(channels, classes) if kind == "conv" else Linear(channels, classes)


class Classifier(nn.Module):
    """A backbone and its classifier: x [N,C,H,W] f32 -> logits [N,K]."""

    def __init__(self, backbone: Backbone, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1])  # type: ignore[no-any-return]


def published(name: str) -> Classifier:
    """The net `name` as published: its backbone with its classifier. ValueError if it was published without one."""
    entry = BACKBONES[name]
    if entry.classes is None:
        raise ValueError(f"{name} was published without a classifier")
    backbone = make_backbone(name, entry.channels)
    return Classifier(backbone, make_classifier(entry.head, backbone.channels[-1], entry.classes))
