"""Nets with bf16 weights for computing, kept next to the fp32 weights that are trained and saved.

Under autocast, a net with fp32 weights casts all of them in every call, which is most of the work of the Nature net on a single
observation. With a bf16 copy, they are cast once per update.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from rlsuite.core import cpu
from rlsuite.core.console import say

Module = TypeVar("Module", bound=nn.Module)


def keep_fp32(module: Module) -> Module:
    """Marks `module` as one that computes in fp32 within a bf16 net, and returns it. The module must switch autocast off itself."""
    setattr(module, "fp32", True)  # noqa: B010  (nn.Module declares its attributes to be tensors or modules)
    return module


@contextmanager
def inference(device: torch.device, bf16: bool) -> Iterator[None]:
    """A context for forward passes that act or evaluate: no gradients, autocast if `bf16`, and on a CPU the best thread count."""
    threads = cpu.working("acting") if device.type == "cpu" else nullcontext()
    with threads, torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        yield


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether a net with this `learner.precision` computes in bf16 on `device`; False, with a message, on a CPU without bf16.

    Trained and saved weights are fp32 either way, so a run can continue, and an agent play, on either kind of machine.
    """
    if precision != "bf16" or device.type != "cpu" or cpu.has_bf16():
        return precision == "bf16"
    _tell()
    return False


@cache
def _tell() -> None:
    say("rlsuite: computing in fp32, because this processor has no bf16 and emulates it many times slower")


class Precision:
    """A pair of nets: `net` computes, `master` holds the weights that are trained and saved.

    In fp32 both are the same net. In bf16 `net` is a copy whose dense layers and convolutions have bf16 weights, rounded exactly as
    autocast would round them in every call; all other parameters and all buffers are shared tensors. Call `net` under autocast.
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
        """Copies the master's weights, rounded to bf16, into `net`. Call it after every change to them."""
        for full, half in self.halves:
            half.copy_(full)

    def take_gradients(self) -> None:
        """Moves the gradients of `net` to `master`, as fp32. Call it after the backward pass."""
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
