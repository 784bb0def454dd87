"""Compares our nets with torchvision's: with the same weights, outputs must be equal.

    pip install --no-deps torchvision==0.28.0 pillow pycocotools     # for torch 2.13
    python scripts/vision_oracle.py

Copies the state dict of every model in order and prints the largest difference of the outputs. Exits with 1 if a net differs by
more than 1e-5. Any build of torchvision will do, because its operators are not used.
"""

import sys

import torch

shim = torch.library.Library("torchvision", "DEF")  # declares operators that some builds of torchvision lack
for operator in ("nms", "qnms"):
    shim.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402  (needs the shim)

from rlsuite.nets.backbones import BACKBONES  # noqa: E402
from rlsuite.nets.classifier import published  # noqa: E402
from rlsuite.nets.pretrained import copy_in_order  # noqa: E402

NETS = (
    *("alexnet", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "vgg19_bn", "googlenet", "inception_v3"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d"),
    *("densenet121", "densenet161", "squeezenet1_0", "squeezenet1_1", "mobilenet_v2"),
    *(f"efficientnet_b{n}" for n in range(8)),
)


def differences() -> int:
    """Prints the difference of the logits for two random images, for every net; returns the number of nets that differ."""
    wrong = 0
    for name in NETS:
        torch.manual_seed(0)
        more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        theirs = torchvision.models.get_model(name, weights=None, **more).eval()
        for module in theirs.modules():  # random statistics, so that a normalisation in the wrong place shows
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        ours = published(name).eval()
        copy_in_order(ours, theirs.state_dict(), name)
        size = min(BACKBONES[name].size, 299)
        x = torch.randn(2, 3, size, size)
        with torch.no_grad():
            a, b = ours(x), theirs(x)
        gap = float((a - b).abs().max() / max(1.0, float(b.abs().max())))
        wrong += gap > 1e-5
        print(f"{name:<18} {sum(p.numel() for p in ours.parameters()):>12,} parameters  largest difference {gap:.1e}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(differences() > 0)
