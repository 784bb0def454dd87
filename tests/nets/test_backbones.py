"""Backbones: one contract for all, published parameter counts, and moving weights between nets."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rlsuite.config.schema import NetConfig
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.core.types import EnvSpec
from rlsuite.nets import catalogue
from rlsuite.nets.backbones import BACKBONES, Backbone, bricks, make_backbone
from rlsuite.nets.backbones.bricks import RectifiedConv2d, Residual, SpectralConv2d
from rlsuite.nets.classifier import published
from rlsuite.nets.pretrained import (
    backbones_of,
    copy_in_order,
    freeze,
    in_order_of,
    layer_groups,
    load_backbones,
    pretrained,
    take_over_normalisation,
)
from rlsuite.nets.q_net import QNet
from rlsuite.nets.torso import PixelTorso, make_torso
from rlsuite.runs import checkpoint

# Deep or wide nets, built of the same blocks as lighter ones: their shapes and counts are checked, but not their gradients.
HEAVY = {
    *("vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet34", "resnet101", "resnet152", "preresnet34"),
    *("preresnet101", "preresnet152", "wide_resnet50_2", "wide_resnet101_2", "resnext101_32x8d", "densenet161", "densenet169"),
    *("densenet201", "densenet190_k40_bc_cifar", "wrn16_10_cifar", "wrn28_10_cifar", "wrn40_8_cifar", "resnet110_cifar"),
    *("preresnet110_cifar", "pyramidnet110_a84_cifar", "pyramidnet110_a270_cifar", "pyramidnet200_a240_bn_cifar"),
    *(
        "pyramidnet164_a270_bn_cifar",
        "pyramidnet272_a200_bn_cifar",
        "efficientnet_b3",
        "efficientnet_b4",
        "efficientnet_b5",
        "efficientnet_b6",
        "efficientnet_b7",
    ),
}
ALL = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.integration if name in HEAVY else ()) for name in BACKBONES]
)
LIGHT = pytest.mark.parametrize("name", [name for name in BACKBONES if name not in HEAVY])

# For 1,000 classes and 3 channels, from torchvision, timm and pytorchcv; for 10 classes (_cifar), from pytorchcv's tests.
PUBLISHED = {
    "lenet": 61_706,
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "googlenet": 6_624_904,
    "inception_v3": 23_834_568,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "preresnet18": 11_687_848,
    "preresnet34": 21_796_008,
    "preresnet50": 25_549_480,
    "preresnet101": 44_541_608,
    "preresnet152": 60_185_256,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v1_75": 2_585_560,
    "mobilenet_v1_50": 1_331_592,
    "mobilenet_v1_25": 470_072,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "darknet53": 41_609_928,
    "resnet20_cifar": 272_474,
    "resnet56_cifar": 855_770,
    "resnet110_cifar": 1_730_714,
    "preresnet20_cifar": 272_282,
    "preresnet56_cifar": 855_578,
    "preresnet110_cifar": 1_730_522,
    "wrn16_10_cifar": 17_116_634,
    "wrn28_10_cifar": 36_479_194,
    "wrn40_8_cifar": 35_748_314,
    "pyramidnet110_a48_cifar": 1_772_706,
    "pyramidnet110_a84_cifar": 3_904_446,
    "pyramidnet110_a270_cifar": 28_485_477,
    "pyramidnet164_a270_bn_cifar": 27_216_021,
    "pyramidnet200_a240_bn_cifar": 26_752_702,
    "pyramidnet272_a200_bn_cifar": 26_210_842,
    "densenet40_k12_cifar": 1_019_722,  # pytorchcv's has another transition; the paper says 1.0 M
    "densenet100_k12_bc_cifar": 769_162,
    "densenet190_k40_bc_cifar": 25_624_430,
}
TORSOS = {
    "nature": 77_984,
    "impala": 97_744,
    "data_efficient": 54_496,
    "small": None,
    "tower": None,
    "graph": None,
    "dcgan": None,
    "embedding": None,
}


def spec(shape: tuple[int, ...] = (4, 84, 84)) -> EnvSpec:
    return EnvSpec(shape, "uint8", num_actions=5, num_states=None, stack=1, frames_per_step=1)


WRITTEN = {facts.name: facts for facts in catalogue.known()}


@ALL
def test_parameters_are_as_published_and_facts_as_stored(name: str) -> None:
    """If only the second check fails, run `python -m rlsuite.nets.catalogue`."""
    facts = catalogue.facts(name)
    assert facts.parameters == PUBLISHED.get(name, facts.parameters)
    assert facts == WRITTEN[name]


def test_every_net_has_a_published_count_or_is_a_torso() -> None:
    assert set(PUBLISHED) | set(TORSOS) == set(BACKBONES)
    for name in ("nature", "impala", "data_efficient"):
        assert sum(p.numel() for p in make_backbone(name, 4).parameters()) == TORSOS[name]


@ALL
def test_channels_and_strides_match_the_shapes(name: str) -> None:
    """For images of odd sizes with an unusual number of channels."""
    size = (203, 165)
    with torch.device("meta"):
        backbone = make_backbone(name, 6)
    assert len(backbone.channels) == len(backbone.strides) == len(backbone.stages)
    assert list(backbone.strides) == sorted(backbone.strides)  # finest first
    for (channels, *pixels), width, stride in zip(backbone.shapes(*size), backbone.channels, backbone.strides, strict=True):
        assert channels == width
        for whole, rows in zip(size, pixels, strict=True):
            # Stages without padding lose positions at the border.
            assert whole / stride - 6 <= rows <= math.ceil(whole / stride) + 1


@LIGHT
@pytest.mark.parametrize("channels", [1, 4])
def test_backbone_contract(name: str, channels: int) -> None:
    """Every weight gets a gradient, in-place activations leave the input alone, and the maps have the predicted shapes."""
    torch.manual_seed(0)
    backbone = make_backbone(name, channels).eval()  # in training, EfficientNet drops branches
    for parameter in backbone.parameters():
        if not parameter.any():  # initialised to 0, so that no gradient would pass
            nn.init.normal_(parameter, std=0.1)
    size = (96, 84) if name == "inception_v3" else (80, 72)
    x = torch.rand(2, channels, *size, requires_grad=True)
    kept = x.detach().clone()
    maps = backbone(x)
    assert [tuple(out.shape[1:]) for out in maps] == backbone.shapes(*size)
    assert torch.equal(x, kept)
    sum((out**2).mean() for out in maps).backward()  # type: ignore[union-attr, arg-type]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@LIGHT
def test_images_of_a_batch_do_not_affect_each_other_without_batch_statistics(name: str) -> None:
    torch.manual_seed(0)
    backbone = make_backbone(name, 3, acting=True).eval()
    x = torch.rand(2, 3, 80, 80)
    with torch.no_grad():
        together, alone = backbone(x)[-1], backbone(x[1:])[-1]
    torch.testing.assert_close(alone, together[1:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "none"])
@pytest.mark.parametrize(
    "name", ["nature", "tower", "vgg11", "resnet18", "preresnet20_cifar", "densenet40_k12_cifar", "mobilenet_v2", "efficientnet_b0"]
)
def test_every_normalisation_can_be_chosen(name: str, norm: str) -> None:
    torch.manual_seed(0)
    backbone = make_backbone(f"{name}(norm={norm})", 3)
    kinds = {type(module) for module in backbone.modules()} & {nn.BatchNorm2d, nn.GroupNorm}
    assert kinds == ({nn.BatchNorm2d} if norm == "batch" else set() if norm == "none" else {nn.GroupNorm})
    if norm == "layer":
        assert all(module.num_groups == 1 for module in backbone.modules() if isinstance(module, nn.GroupNorm))
    assert torch.isfinite(backbone(torch.rand(2, 3, 64, 64))[-1]).all()


@pytest.mark.parametrize("name", ["nature", "impala", "tower", "resnet18", "squeezenet1_1"])
def test_shifting_an_image_by_the_stride_shifts_the_map_by_one(name: str) -> None:
    """Checked on the first two maps, away from the borders."""
    torch.manual_seed(0)
    backbone = make_backbone(f"{name}(norm=none)", 1).eval()
    for index, stride in enumerate(backbone.strides[:2]):
        x = torch.zeros(1, 1, 256, 256)
        x[..., 124:132, 124:132] = torch.rand(8, 8)
        with torch.no_grad():
            a, b = backbone(x)[index], backbone(torch.roll(x, stride, dims=-1))[index]
        edge = 11  # positions that zero padding may affect
        inner = a[..., edge:-edge, edge : -edge - 1]
        assert (inner - inner[..., :1, :1]).abs().max() > 1e-4  # the pattern has an effect at all
        torch.testing.assert_close(b[..., edge:-edge, edge + 1 : -edge], inner, rtol=1e-4, atol=1e-4)


def test_pool_and_norm_of_a_torso() -> None:
    flat, gap = make_torso("impala", 8, spec()), make_torso("impala(pool=gap)", 8, spec())
    assert (flat.features, gap.features) == (32 * 11 * 11, 32)
    x = torch.randint(0, 256, (2, 3, 4, 84, 84), dtype=torch.uint8)
    assert isinstance(gap, PixelTorso)
    torch.testing.assert_close(gap(x), gap.backbone(x.flatten(0, 1) / 255)[-1].mean((2, 3)).unflatten(0, (2, 3)))
    assert make_torso("resnet18", 8, spec()).features == 512
    assert not any(isinstance(m, nn.BatchNorm2d) for m in make_torso("resnet18", 8, spec()).modules())
    assert make_torso("resnet18(pool=flatten)", 8, spec()).features == 512 * 9


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("name", ["nature", "small"])
def test_a_rectified_torso_sees_the_same_in_a_picture_its_negative_and_one_of_less_contrast(name: str, norm: str) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 128, (1, 2, 4, 84, 84), dtype=torch.uint8) * 2
    plain, rectified = (make_torso(f"{name}(norm={norm}{more})", 8, spec()) for more in ("", ",rectify=true"))
    seen = rectified(x)
    assert seen.std() > 0
    torch.testing.assert_close(rectified(254 - x), seen, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rectified(x // 2 + 100), seen, rtol=0.02, atol=0.02)
    assert not torch.allclose(plain(254 - x), plain(x), rtol=0.1, atol=0.1)
    rectified(x).sum().backward()
    first = next(rectified.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_a_rectified_convolution_sees_nothing_on_a_constant_image_and_a_faint_object_as_a_bright_one() -> None:
    torch.manual_seed(0)
    layer = RectifiedConv2d(2, 4, 8, 4)
    image = torch.full((1, 2, 64, 64), 98 / 255)
    assert layer(image).max() < 1e-6
    image[..., 40:50, 20:30] = 1  # something bright in all the images, far from the object
    bright, faint = image.clone(), image.clone()
    bright[..., 8:14, 52:54] = 158 / 255
    faint[..., 8:14, 52:54] = 103 / 255
    near = (slice(None), slice(None), slice(0, 4), slice(11, 15))  # the patches that hold the object
    assert layer(image)[near].max() < 0.01 < layer(bright)[near].max() / 10
    torch.testing.assert_close(layer(faint)[near], layer(bright)[near], rtol=0.3, atol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(faint)[near].float(), layer(bright)[near].float(), rtol=0.3, atol=0.02)


@pytest.mark.parametrize("size", [84, 64, 40])
def test_max6_pools_any_picture_to_a_grid_of_6x6(size: int) -> None:
    torso = make_torso("impala(pool=max6)", 8, spec()._replace(observation_shape=(4, size, size)))
    assert isinstance(torso, PixelTorso)
    assert (torso.map_shape, torso.features) == ((32, 6, 6), 32 * 36)
    x = torch.randint(0, 256, (2, 3, 4, size, size), dtype=torch.uint8)
    pooled = torso(x).reshape(6, 32, 36)
    whole = torso.backbone(x.flatten(0, 1) / 255)[-1]
    torch.testing.assert_close(pooled.amax(2), whole.amax((2, 3)))  # the cells cover the map


def test_spectral_norm_is_that_of_pytorch() -> None:
    """Ours starts at the exact singular vector; from the same one, PyTorch's weights are the same after three changes of them."""
    torch.manual_seed(0)
    ours = SpectralConv2d(3, 8, 3)
    plain = nn.Conv2d(3, 8, 3, padding=1)
    plain.load_state_dict({name: tensor for name, tensor in ours.state_dict().items() if name != "u"})
    theirs = nn.utils.parametrizations.spectral_norm(plain)
    norm = theirs.parametrizations.weight[0]  # type: ignore[union-attr, index]
    x = torch.rand(2, 3, 5, 5)
    for _ in range(3):
        with torch.no_grad():
            change = torch.randn_like(ours.weight)
            ours.weight += change
            theirs.parametrizations.weight.original += change  # type: ignore[union-attr, operator]
        norm.eval()  # so that it does not step where we look
        norm._u.copy_(ours.u)
        norm._v.copy_(nn.functional.normalize(ours.weight.detach().flatten(1).mT @ ours.u, dim=0))
        norm._u.copy_(nn.functional.normalize(ours.weight.detach().flatten(1) @ norm._v, dim=0))
        a, b = ours(x), theirs(x)
        torch.testing.assert_close(a, b)
        a.square().sum().backward()
        b.square().sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.parametrizations.weight.original.grad)  # type: ignore[union-attr]


def test_the_largest_singular_value_of_spectral_weights_is_1() -> None:
    torch.manual_seed(0)
    conv = SpectralConv2d(4, 6, 3)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        conv.weight.mul_(7).add_(torch.randn_like(conv.weight))
    for _ in range(60):
        conv(torch.zeros(1, 4, 3, 3))
    sigma = torch.linalg.matrix_norm(conv.weight.flatten(1), 2)
    x = torch.rand(1, 4, 9, 9)
    expected = nn.functional.conv2d(x, conv.weight / sigma, padding=1)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_acting_leaves_the_estimate_of_the_spectral_norm_alone() -> None:
    torso = make_torso("impala(spectral=true)", 8, spec())
    convs = [module for module in torso.modules() if isinstance(module, SpectralConv2d)]
    assert len(convs) == 12  # two blocks of two in each of three sections
    with torch.no_grad():
        for conv in convs:
            conv.weight.add_(torch.randn_like(conv.weight))
    before = [conv.u.clone() for conv in convs]
    x = torch.randint(0, 256, (1, 2, 4, 84, 84), dtype=torch.uint8)
    with torch.no_grad():
        acted = torso(x)
    assert all(torch.equal(conv.u, u) for conv, u in zip(convs, before, strict=True))
    torch.testing.assert_close(torso(x).detach(), acted)  # the step is made before the division, in both
    assert not any(torch.equal(conv.u, u) for conv, u in zip(convs, before, strict=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18(norm=batch)", "agents act on other batches"),
        ("resnet18(norm=grup)", r"unknown norm of resnet18 'grup'; did you mean group"),
        ("impala(pool=max)", r"unknown pool of impala 'max'"),
        ("tower(wdth=8)", r"unknown parameter of tower 'wdth'; did you mean width"),
        ("tower(width=0)", "width = 0, but it is a whole number above 0"),
        ("tower(width=true)", "width = True, but it is a whole number above 0"),
        ("impala(spectral=1)", "spectral = 1, but it is a switch: true or false"),
        ("resnet18(layers=50)", "unknown parameter of resnet18 'layers'"),
        ("resnet17", r"unknown net.torso 'resnet17'; did you mean resnet1"),
    ],
)
def test_bad_parameters_of_a_torso_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_torso(name, 8, spec())


def test_pool_is_refused_outside_of_agents() -> None:
    with pytest.raises(UsageError, match="pool is for torsos of agents"):
        make_backbone("impala(pool=gap)", 3)


def test_a_residual_block_by_hand() -> None:
    """act(body + shortcut); if there is an entry, both branches take its output."""
    x = torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1)
    minus = nn.Conv2d(2, 2, 1, bias=False)
    nn.init.constant_(minus.weight, 0)
    minus.weight.data[0, 0] = minus.weight.data[1, 1] = -2.0
    assert Residual(minus)(x).flatten().tolist() == [1.0, 0.0]
    assert Residual(minus, act=False)(x).flatten().tolist() == [1.0, -2.0]
    assert Residual(minus, act=False, entry=nn.ReLU())(x).flatten().tolist() == [0.0, -2.0]


def test_facts_of_a_net() -> None:
    found = catalogue.facts("resnet18")
    assert found.parameters == 11_689_512
    assert found.strides == (2, 4, 8, 16, 32)
    assert found.channels == (64, 64, 128, 256, 512)
    assert found.macs == 1_814_073_344  # He et al. 2015, table 1: 1.8e9
    assert [line.split()[0] for line in catalogue.table().splitlines()[1:]] == list(BACKBONES)


# ------------------------------------------------------------------------------------------------------ moving weights


def q_net(torso: str = "small") -> QNet:
    return QNet(NetConfig(torso=torso, hidden=16), spec(), 1, False, None)


def test_copying_in_order_names_the_first_tensor_that_does_not_fit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a, b = published("resnet20_cifar"), make_backbone("resnet20_cifar", 3)
    renamed = {f"layer{index}": tensor for index, tensor in enumerate(a.state_dict().values())}
    copy_in_order(b, renamed, "theirs")  # the classifier at the end is left over
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(a.backbone.eval()(x)[-1], b.eval()(x)[-1], rtol=0, atol=0)
    before = {name: tensor.clone() for name, tensor in b.state_dict().items()}
    renamed["layer6"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"layer6 has shape \[3\], in its place"):
        copy_in_order(b, renamed, "theirs")
    with pytest.raises(CheckpointError, match="holds 1 tensors"):
        copy_in_order(b, {"w": torch.zeros(1)}, "theirs")
    assert all(torch.equal(before[name], tensor) for name, tensor in b.state_dict().items())


def test_auxiliary_classifiers_are_skipped() -> None:
    net = make_backbone("lenet", 1)
    first, *rest = net.state_dict().items()
    copy_in_order(make_backbone("lenet", 1), {first[0]: first[1], "AuxLogits.conv": torch.zeros(7), **dict(rest)}, "theirs")


def test_an_imported_file_keeps_the_order_of_its_tensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a = make_backbone("resnet20_cifar", 3)
    save_file(in_order_of(a.state_dict()), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds the weights of another net"):
        load_backbones(q_net("resnet20_cifar"), tmp_path / "a.safetensors")  # group normalisation
    c = make_backbone("resnet20_cifar", 3)
    load_backbones(c, tmp_path / "a.safetensors")
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), c.state_dict().values(), strict=True))
    save_file({"conv": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="lost the order of its layers"):
        load_backbones(c, tmp_path / "b.safetensors")
    for name, message in (("c.safetensors", "cannot read weights"), ("d.pth", "pickles can run code"), ("no", "does not exist")):
        with pytest.raises(UsageError, match=message):
            load_backbones(c, tmp_path / name)


def test_the_first_convolution_is_adapted_to_other_channels() -> None:
    """A grey image repeated in every channel gives the same output."""
    torch.manual_seed(0)
    grey, colour = make_backbone("alexnet", 3), make_backbone("alexnet", 4)
    copy_in_order(colour, grey.state_dict(), "theirs")
    x = torch.rand(1, 1, 96, 96)
    a, b = grey(x.expand(-1, 3, -1, -1))[0], colour(x.expand(-1, 4, -1, -1))[0]
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet20_cifar"),
        *(pytest.param(n, marks=pytest.mark.integration) for n in ("vgg11_bn", "mobilenet_v2", "googlenet", "efficientnet_b0")),
    ],
)
def test_batch_normalisation_is_folded_into_a_torso_without_any(name: str, tmp_path: Path) -> None:
    """So that agents can use torchvision's weights: the torso gives the output of the net in evaluation mode."""
    torch.manual_seed(0)
    theirs = make_backbone(name, 4)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
    save_file(in_order_of(theirs.state_dict()), tmp_path / "theirs.safetensors")
    net = q_net(f"{name}(norm=none)")
    load_backbones(net, tmp_path / "theirs.safetensors")
    (ours,) = backbones_of(net)
    x = torch.rand(2, 4, 84, 84)
    with torch.no_grad():
        a, b = theirs.eval()(x), ours.eval()(x)
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
    with pytest.raises(CheckpointError, match="holds the weights of another net"):
        load_backbones(q_net(name), tmp_path / "theirs.safetensors")  # a net with group normalisation is another net


def test_a_normalisation_before_its_convolution_is_not_folded(tmp_path: Path) -> None:
    save_file(in_order_of(make_backbone("preresnet20_cifar", 4).state_dict()), tmp_path / "theirs.safetensors")
    with pytest.raises(CheckpointError, match="cannot be folded into norm=none"):
        load_backbones(q_net("preresnet20_cifar(norm=none)"), tmp_path / "theirs.safetensors")


@pytest.mark.parametrize("name", ["impala", "impala(norm=batch)", "resnet18"])
def test_our_own_checkpoints_are_adapted_to_other_channels(name: str, tmp_path: Path) -> None:
    """The file sorts its tensors, so the first convolution is not the first tensor."""
    torch.manual_seed(0)
    a, b = make_backbone(name, 3), make_backbone(name, 4)
    weights = {f"backbone.{key}": tensor for key, tensor in a.state_dict().items()}
    path = checkpoint.save(tmp_path, 1, weights, {}, {})
    load_backbones(b, path)
    x = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        one, other = a.eval()(x.expand(-1, 3, -1, -1)), b.eval()(x.expand(-1, 4, -1, -1))
    torch.testing.assert_close(one[-1], other[-1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_the_first_convolution_takes_over_the_normalisation_of_inputs(name: str) -> None:
    """Outputs are equal away from the border."""
    torch.manual_seed(0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    a, b = make_backbone(name, 3).eval(), make_backbone(name, 3).eval()
    b.load_state_dict(take_over_normalisation(dict(a.state_dict()), mean, std))
    x = torch.rand(1, 3, 96, 96)
    centred = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    inner = (..., slice(3, -3), slice(3, -3))
    with torch.no_grad():
        torch.testing.assert_close(a(centred)[0][inner], b(x)[0][inner], rtol=1e-3, atol=1e-4)


def test_a_frozen_backbone_does_not_change() -> None:
    resnet = make_backbone("resnet18", 3)
    freeze(resnet)
    before = {name: tensor.clone() for name, tensor in resnet.state_dict().items()}
    resnet.train()(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in resnet.state_dict().items())  # nor its statistics
    net = q_net()
    freeze(net)
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {n for n, _ in net.named_parameters() if "head" in n}
    with pytest.raises(UsageError, match="no backbone"):
        freeze(nn.Linear(1, 1))


def test_layer_wise_learning_rates() -> None:
    net = q_net()
    groups = layer_groups(net, 0.5)
    assert [factor for factor, _ in groups] == [1.0, 0.5, 0.25, 0.125]
    assert sum(len(parameters) for _, parameters in groups) == len(list(net.parameters()))
    (backbone,) = backbones_of(net)
    assert isinstance(backbone, Backbone)
    assert {id(p) for p in backbone.stages[0].parameters()} == {id(p) for p in groups[-1][1]}


@pytest.mark.parametrize(
    ("what", "message"),
    [("resnet18", "must read torchvision:NAME"), ("keras:resnet18", "must read"), ("timm:nothing", "timm")],
)
def test_unknown_libraries_and_models_are_refused(what: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pretrained(what)


def test_bf16_is_not_fused_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN refuses it there."""
    monkeypatch.setattr("rlsuite.core.cpu.has_bf16", lambda: False)
    assert not bricks._fused.__wrapped__(torch.bfloat16)
    assert bricks._fused.__wrapped__(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_tower_gives_the_same_with_and_without_fused_operations(
    dtype: torch.dtype, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gradients a block is two operations of oneDNN; a sum that is rounded once less is all that differs."""
    torch.manual_seed(0)
    net = make_backbone("tower(width=8,depth=2)", 3).to(dtype)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    x = torch.randn(5, 3, 6, 7, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        fused = net(x)[-1]
        monkeypatch.setattr(bricks, "_fused", lambda dtype: False)
        plain = net(x)[-1]
    assert fused.dtype == plain.dtype
    exact = dtype == torch.float32 and not autocast
    torch.testing.assert_close(fused, plain, rtol=1e-5 if exact else 0.02, atol=1e-5 if exact else 0.02)
    net(x)[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
