"""Vision models: every head learns and predicts, published sizes, dilation, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rlsuite.core.errors import UsageError
from rlsuite.nets.backbones import make_backbone
from rlsuite.vision.detection.anchor_based import Anchored, Yolo
from rlsuite.vision.detection.anchor_free import AnchorFree
from rlsuite.vision.detection.losses import focal
from rlsuite.vision.model import HEADS, NECKS, Model, kind_of, make_model
from rlsuite.vision.necks import Fpn, levels
from rlsuite.vision.segmentation import SegNet, dilate

MODELS = [
    ("lenet", "none", "published"),
    ("resnet20_cifar", "none", "linear(dropout=0.1)"),
    ("squeezenet1_1", "none", "published"),
    ("impala", "none", "fcn(skips=2)"),
    ("impala", "none", "unet(width=8)"),
    ("resnet18", "none", "unet(width=8)"),
    ("vgg11_bn", "none", "segnet"),
    ("impala", "none", "segnet"),
    ("resnet18", "none", "deeplab(width=16)"),
    ("resnet18", "jpu(width=8)", "fcn"),
    ("resnet18", "jpu(width=8)", "deeplab(width=16)"),
    ("resnet18", "fpn(width=16,finest=8,extra=conv)", "retinanet(depth=1)"),
    ("impala", "fpn(width=16,finest=2)", "anchor_free(depth=1)"),
    ("vgg11_bn", "extra(width=16)", "ssd"),
    ("resnet18", "yolo", "yolo"),
    ("impala", "mlfpn(finest=4,width=16,count=2)", "ssd"),
    ("resnet18", "fpn(width=16,extra=pool)", "roi(hidden=16,proposals=20)"),
    ("resnet18", "fpn(width=16)", "roi(hidden=16,proposals=20,mask=8)"),
    ("impala", "fpn(width=16,finest=2)", "roi(hidden=16,mode=fast)"),
    ("impala", "fpn(width=16,finest=2)", "roi(hidden=16,mode=rcnn)"),
]


def labelled() -> tuple[Tensor, dict[str, Tensor]]:
    """Two pictures of an odd size: one with two objects, one with one."""
    images = torch.randint(0, 256, (2, 3, 70, 84), dtype=torch.uint8)
    mask = torch.randint(0, 5, (2, 70, 84))
    mask[:, :4] = 255
    boxes = torch.tensor([[[10.0, 10, 30, 40], [50, 20, 60, 30]], [[5, 5, 80, 65], [0, 0, 0, 0]]])
    classes = torch.tensor([[0, 3], [2, -1]])
    y, x = torch.arange(70)[:, None] + 0.5, torch.arange(84) + 0.5
    x1, y1, x2, y2 = (boxes[..., i, None, None] for i in range(4))
    masks = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    return images, {"mask": mask, "boxes": boxes, "classes": classes, "masks": masks, "label": torch.tensor([0, 4])}


@pytest.mark.parametrize(("backbone", "neck", "head"), MODELS)
def test_every_model_learns_and_predicts(backbone: str, neck: str, head: str) -> None:
    torch.manual_seed(0)
    model = make_model(backbone, head, 5, 3, neck=neck)
    images, labels = labelled()
    loss, metrics = model.losses(images, labels)
    assert loss.shape == (2,)
    assert torch.isfinite(loss).all()
    assert metrics
    loss.mean().backward()
    touched = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert any(name.startswith("backbone.stages.0") for name in touched)
    assert any(name.startswith("head.") for name in touched)
    model.eval()
    with torch.no_grad():
        found: Any = model.predict(images)
    task = kind_of(head).task
    if task == "classify":
        assert found.shape == (2,)
    elif task == "segment":
        assert found.shape == (2, 70, 84)
        assert int(found.max()) < 5
    else:
        assert len(found) == 2
        for each in found:
            assert each.boxes.shape == (len(each.scores), 4)
            assert (each.boxes >= 0).all()
            assert (each.boxes[:, 2] <= 84).all()
            assert (each.boxes[:, 3] <= 70).all()
            assert each.scores.tolist() == sorted(each.scores.tolist(), reverse=True)
            assert (each.masks is not None) == ("mask=" in head)


@pytest.mark.parametrize(("backbone", "neck", "head"), [m for m in MODELS if kind_of(m[2]).task == "detect"])
def test_pictures_without_any_object(backbone: str, neck: str, head: str) -> None:
    torch.manual_seed(0)
    model = make_model(backbone, head, 5, 3, neck=neck)
    images, labels = labelled()
    labels["classes"][:] = -1
    loss, _ = model.losses(images, labels)
    assert torch.isfinite(loss).all()
    loss.mean().backward()


def test_yolo_puts_an_object_into_the_cell_of_its_centre() -> None:
    head = Yolo([4, 4], [8, 16], 1)
    sizes = [(8, 8), (4, 4)]
    anchors = head.anchors(sizes)
    stride = torch.cat([torch.full((8 * 8 * 3, 1), 8.0), torch.full((4 * 4 * 3, 1), 16.0)])
    torch.manual_seed(0)
    low = torch.rand(200, 2) * 40
    boxes = torch.cat([low, low + 2 + torch.rand(200, 2) * 20], 1)
    owner = head._owners(boxes, anchors, stride)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    off = (centre - (anchors[owner][:, :2] + anchors[owner][:, 2:]) / 2).abs()
    assert (off <= stride[owner] / 2 + 1e-4).all()
    square = torch.tensor([[20.0, 20, 36, 36]])  # as large as the smallest anchor of the fine level
    assert (anchors[head._owners(square, anchors, stride)] == square).all()


def test_every_head_and_neck_is_covered() -> None:
    elsewhere = ("generate", "translate", "read")  # test_generation.py, test_translation.py, test_reading.py
    here = {name for name, kind in HEADS.items() if kind.task not in elsewhere}
    assert {head.split("(")[0] for _, _, head in MODELS} == {"published", *here}
    assert {neck.split("(")[0] for _, neck, _ in MODELS} == set(NECKS)


@pytest.mark.parametrize(
    ("backbone", "neck", "head"),
    [
        pytest.param(*m, marks=() if m[2].startswith(("unet", "retinanet", "anchor_free")) else pytest.mark.integration)
        for m in MODELS
        if kind_of(m[2]).task != "classify" and "mode=" not in m[2]
    ],
)
def test_a_model_learns_two_pictures_by_heart(backbone: str, neck: str, head: str) -> None:
    """The loss falls far below its initial value: no sign is wrong and no target is misplaced."""
    torch.manual_seed(0)
    model = make_model(f"{backbone}(norm=group)", head, 5, 3, neck=neck)
    images, labels = labelled()
    labels["mask"] = torch.arange(70 * 84).view(1, 70, 84).expand(2, -1, -1) // 1200  # broad stripes
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss, _ = model.losses(images, labels)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        losses.append(float(loss.detach().mean()))
    assert min(losses[-5:]) < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("backbone", "neck", "head", "classes", "stride", "count"),
    [
        ("resnet50", "none", "fcn", 21, 8, 32_957_013),
        ("resnet50", "none", "deeplab", 21, 8, 39_638_869),
        ("resnet101", "none", "deeplab", 21, 8, 58_630_997),
        ("resnet50", "fpn(width=256,finest=8,extra=conv)", "retinanet", 91, None, 34_068_119),
        ("resnet50", "fpn(width=256,finest=4,extra=pool)", "roi", 90, None, 41_808_406),
        ("resnet50", "fpn(width=256,finest=4,extra=pool)", "roi(mask=256)", 90, None, 44_454_513),
        ("darknet53", "yolo", "yolo", 80, None, 61_949_149),
    ],
)
def test_parameters_of_published_models(backbone: str, neck: str, head: str, classes: int, stride: int | None, count: int) -> None:
    """Those of torchvision, with trainable normalisation; YOLOv3's from its paper."""
    with torch.device("meta"):
        model = make_model(backbone, head, classes, 3, neck=neck, output_stride=stride)
    assert sum(p.numel() for p in model.parameters()) == count


def test_dilation_keeps_the_weights_and_the_receptive_field() -> None:
    """Away from the border, every second place of the finer map equals the strided net's map exactly."""
    torch.manual_seed(0)
    plain = make_backbone("resnet50(norm=none)", 3).eval()
    fine = make_backbone("resnet50(norm=none)", 3).eval()
    fine.load_state_dict(plain.state_dict())
    dilate(fine, 16)
    assert fine.strides == (2, 4, 8, 16, 16)
    assert fine.shapes(128, 128)[-1] == (2048, 8, 8)
    with torch.no_grad():
        for p in (*plain.parameters(), *fine.parameters()):
            p.mul_(0.5)
        x = torch.rand(1, 3, 512, 512)
        a, b = plain(x)[-1], fine(x)[-1][..., ::2, ::2]
    middle = slice(6, 10)
    torch.testing.assert_close(a[..., middle, middle], b[..., middle, middle], rtol=1e-4, atol=1e-6)


def test_dilation_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="output_stride 1 is none of"):
        dilate(make_backbone("resnet18", 3), 1)
    with pytest.raises(ValueError, match="its shortcuts pool"):
        dilate(make_backbone("pyramidnet110_a48_cifar", 3), 2)
    with pytest.raises(ValueError, match="pools where it would have to dilate"):
        dilate(make_backbone("vgg11", 3), 8)


def test_a_pyramid_adds_the_coarse_to_the_fine() -> None:
    fpn = Fpn([2, 2], [4, 8], 2, 4, "pool")
    assert (fpn.channels, fpn.strides) == ((2, 2, 2), (4, 8, 16))
    for conv in (*fpn.inner, *fpn.outer):
        torch.nn.init.dirac_(conv.weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    fine, coarse = torch.rand(1, 2, 5, 5), torch.rand(1, 2, 3, 3)
    out = fpn([fine, coarse])
    torch.testing.assert_close(out[1], coarse)
    torch.testing.assert_close(out[0], fine + torch.nn.functional.interpolate(coarse, size=(5, 5)))
    torch.testing.assert_close(out[2], coarse[..., ::2, ::2])


def test_unpooling_puts_values_where_the_maxima_stood() -> None:
    head = SegNet([1, 1], [1, 2], 1)
    head.steps[0] = torch.nn.Identity()
    head.last = torch.nn.Identity()  # type: ignore[assignment]
    fine = torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]])
    assert head.logits([fine, torch.tensor([[[[7.0]]]])]).tolist() == [[[[0, 7], [0, 0]]]]


def test_the_focal_loss_by_hand() -> None:
    """p = 0.5: (1-p)² ln 2, weighted 0.25 for positives and 0.75 for negatives."""
    loss = focal(torch.zeros(2), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, torch.tensor([0.25, 0.75]) * 0.25 * torch.log(torch.tensor(2.0)))


def test_anchors_lie_on_every_level() -> None:
    anchors = Anchored([4, 8], [2.0], [1.0])([(2, 2), (1, 1)])
    assert anchors.tolist() == [[-2, -2, 6, 6], [2, -2, 10, 6], [-2, 2, 6, 10], [2, 2, 10, 10], [-4, -4, 12, 12]]


def test_places_without_anchors_belong_to_the_smallest_object_of_their_level() -> None:
    head = AnchorFree([4, 4], [2, 8], 1)
    points, stride = head._places([(8, 8), (2, 2)], torch.device("cpu"))
    small, large = torch.tensor([3.0, 3, 7, 7]), torch.tensor([0.0, 0, 24, 24])
    owner = head._owners(torch.stack([large, small]), points, stride)
    fine, coarse = owner[:64].view(8, 8), owner[64:].view(2, 2)
    assert fine[2, 2] == 1  # around (5, 5)
    assert fine[7, 7] == -1
    assert (coarse == 0).all()
    assert (fine[fine >= 0] == 1).all()  # the large one is not looked for on the fine level
    decoded = head._boxes(torch.tensor([[0.0, 0, 0, 0]]), torch.tensor([[5.0, 5]]), torch.tensor([2.0]))
    assert decoded.tolist() == [[4, 4, 6, 6]]
    assert head._owners(torch.zeros(0, 4), points, stride).eq(-1).all()


def test_levels_of_a_backbone() -> None:
    assert levels([4, 8, 8], 8) == [2]
    assert levels([2, 4, 8], 4) == [1, 2]
    with pytest.raises(ValueError, match="stride 64"):
        levels([2, 4], 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "retinanett"}, "unknown model.head 'retinanett'; did you mean retinanet"),
        ({"neck": "fpm"}, "unknown model.neck 'fpm'; did you mean fpn"),
        ({"neck": "fpn(widht=3)"}, "unknown parameter of fpn 'widht'; did you mean width"),
        ({"neck": "fpn(width=many)"}, "width must be a whole number"),
        ({"neck": "fpn(finest=64)"}, "its finest map should have stride 64"),
        ({"neck": "fpn(width=0)"}, "width must be above 0"),
        ({"neck": "none"}, "its maps must be of one width"),
        ({"head": "roi(mode=fster)", "neck": "fpn"}, "mode=fster: must be faster, fast, rcnn"),
        ({"head": "published(dropout=0.5)"}, "published takes no parameters"),
        ({"head": "fcn", "output_stride": 10}, "output_stride 10 is none of"),
        ({"neck": "fpn(extra=more)"}, "unknown extra of fpn"),
        ({"head": "fcn(skips=9)", "neck": "none"}, "9 skips"),
        ({"backbone": "resnet"}, "unknown backbone 'resnet'"),
        ({"backbone": "vgg11", "output_stride": 8}, "pools where it would have to dilate"),
    ],
)
def test_what_a_model_refuses(changes: dict[str, Any], message: str) -> None:
    given = {"backbone": "resnet18", "head": "retinanet", "neck": "fpn", **changes}
    with pytest.raises(UsageError, match=message):
        make_model(given["backbone"], given["head"], 3, 3, neck=given["neck"], output_stride=given.get("output_stride"))


def test_the_model_is_one_module_with_names_that_agents_share() -> None:
    model = make_model("impala", "unet", 3, 4)
    assert isinstance(model, Model)
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "head"}
