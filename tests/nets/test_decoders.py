"""Decoders mirror the scales of a backbone, by transposed convolutions or by resizing."""

import pytest
import torch
from torch import nn

from rlsuite.core.errors import UsageError
from rlsuite.nets.backbones import make_backbone
from rlsuite.nets.backbones.bricks import norm_of
from rlsuite.nets.decoders import Decoder, DenseDecoder, up

PICTURES = [
    ("impala", (1, 28, 28)),
    ("nature", (4, 84, 84)),
    ("small", (4, 44, 60)),
    ("resnet20_cifar", (1, 28, 28)),
    ("tower", (3, 8, 8)),
    ("resnet18", (3, 64, 48)),
    ("lenet", (1, 28, 28)),
    ("dcgan(depth=3)", (1, 28, 28)),
]


@pytest.mark.parametrize("how", ["transpose", "resize"])
@pytest.mark.parametrize(("backbone", "picture"), PICTURES)
def test_a_decoder_leads_back_to_the_picture(backbone: str, picture: tuple[int, int, int], how: str) -> None:
    net = make_backbone(backbone, picture[0])
    shapes = net.shapes(*picture[1:])
    decoder = Decoder(5, shapes, picture, how)
    assert decoder(torch.randn(2, 5)).shape == (2, *picture)
    sizes = []
    for module in decoder.modules():
        module.register_forward_hook(lambda module, given, out: sizes.append(tuple(out.shape[1:])))
    decoder(torch.randn(2, 5))
    assert set(shapes) - set(sizes) <= {s for s in shapes if any(s[1:] == t[1:] and s != t for t in shapes)}


def test_a_transposed_convolution_mirrors_the_convolution() -> None:
    """Kernel, stride and padding are those of the Nature net, of DCGAN and of a convolution that keeps the size."""

    def sizes(side: int, to: int) -> tuple[int, int, int]:
        layer = up(1, 1, (side, side), (to, to), "transpose")[0]
        assert isinstance(layer, nn.ConvTranspose2d)
        return layer.kernel_size[0], layer.stride[0], layer.padding[0]

    assert [sizes(7, 9), sizes(9, 20), sizes(20, 84)] == [(3, 1, 0), (4, 2, 0), (8, 4, 0)]
    assert [sizes(4, 8), sizes(7, 14), sizes(16, 32)] == [(4, 2, 1)] * 3
    assert sizes(8, 8) == (3, 1, 1)


def test_dcgan_has_the_published_numbers_of_parameters() -> None:
    """Of PyTorch's tutorial, which has no bias in the last layers."""
    net = make_backbone("dcgan", 3)
    assert sum(p.numel() for p in net.parameters()) + 512 * 4 * 4 == 2_765_568
    generator = Decoder(100, net.shapes(64, 64), (3, 64, 64), "transpose")
    assert sum(p.numel() for p in generator.parameters()) == 3_576_704 + 3


def test_a_dense_decoder_and_an_unknown_kind_of_upsampling() -> None:
    assert DenseDecoder(5, (1, 6, 7))(torch.randn(2, 5)).shape == (2, 1, 6, 7)
    assert DenseDecoder(5, (9,))(torch.randn(2, 5)).shape == (2, 9)
    with pytest.raises(ValueError, match="up=resise: must be transpose or resize"):
        Decoder(5, [(4, 3, 3)], (1, 6, 6), "resise")


def test_instance_normalisation_takes_contrast_and_brightness_out() -> None:
    x = torch.randn(2, 3, 6, 6)
    norm = norm_of("instance", 3)
    expected = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(3 * x + 7), norm(x), atol=1e-4, rtol=1e-4)
    assert make_backbone("impala(norm=instance)", 4, acting=True)(torch.rand(1, 4, 84, 84))[-1].shape == (1, 32, 11, 11)
    with pytest.raises(UsageError, match="a feature map of 1x1 has no pixels to normalise over"):
        norm(torch.randn(2, 3, 1, 1))
