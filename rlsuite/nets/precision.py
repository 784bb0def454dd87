"""Nets in half precision, beside the fp32 weights that are trained and saved.

Under autocast a net in fp32 casts all its weights in every call: for the Nature net on one observation that is most of the work.
"""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

Module = TypeVar("Module", bound=nn.Module)


def keep_fp32(module: Module) -> Module:
    """Marks a module that computes in fp32 within a bf16 net (it must switch autocast off itself)."""
    setattr(module, "fp32", True)  # noqa: B010  (nn.Module declares its attributes to be tensors or modules)
    return module


class Precision:
    """`net` is what computes, `master` holds what is trained and saved.

    In fp32 both are one. In bf16 `net` is a copy whose dense layers and convolutions hold their weights in bf16, rounded as
    autocast would round them in every call; every other parameter and every buffer is the same tensor in both. Call it under
    autocast.
    """

    def __init__(self, master: nn.Module, bf16: bool):
        self.master = master
        self.net = master
        if bf16:
            self.net = copy.deepcopy(master)
            _lower(self.net)
            _share(master, self.net)
        parameters = zip(master.parameters(), self.net.parameters(), strict=True)
        self.halves = [(full, half) for full, half in parameters if full is not half]

    @torch.no_grad()
    def refresh(self) -> None:
        """After a change of the master's weights: rounds them again."""
        for full, half in self.halves:
            half.copy_(full)

    def take_gradients(self) -> None:
        """After backward through `net`: its gradients become the master's."""
        for full, half in self.halves:
            full.grad = None if half.grad is None else half.grad.to(full.dtype)
            half.grad = None


def _lower(module: nn.Module) -> None:
    if getattr(module, "fp32", False):
        return
    if isinstance(module, nn.Linear | _ConvNd):
        module.to(torch.bfloat16)
    for child in module.children():
        _lower(child)


def _share(master: nn.Module, net: nn.Module) -> None:
    for full, half in zip(master.modules(), net.modules(), strict=True):
        for name, parameter in full.named_parameters(recurse=False):
            if getattr(half, name).dtype == parameter.dtype:
                setattr(half, name, parameter)
        for name, buffer in full.named_buffers(recurse=False):
            setattr(half, name, buffer)
