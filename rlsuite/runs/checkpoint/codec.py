"""Converts the nested state of a checkpoint to JSON plus named tensors and arrays, and back."""

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.core.errors import CheckpointError

Json: TypeAlias = Any  # None | bool | int | float | str | list[Json] | dict[str, Json]
State: TypeAlias = dict[str, Any]  # nested dict (str or int keys), list, tuple of Tensor | ndarray | the scalars above

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def load_weights_into(module: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    """Copies `weights` into `module`; CheckpointError with the first differences if the weights do not fit it.

    `what` names the weights in the message, e.g. the path of their checkpoint. On an error the module is unchanged.
    """
    check_weights(module, weights, what)
    module.load_state_dict(weights)


def check_weights(module: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    """CheckpointError with the first differences if `weights` do not fit `module`, which may be on the meta device."""
    own = module.state_dict()
    differ = [f"{name} is missing" for name in own if name not in weights]
    differ += [f"{name} is unknown to this net" for name in weights if name not in own]
    differ += [
        f"{name} has shape {list(weights[name].shape)}, this net has {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise CheckpointError(f"{what} holds the weights of another net: {'; '.join(differ[:3])}{more}")


class Packer:
    """Converts a nested state to JSON and collects its tensors and arrays (no copies) under unique names.

    Values that JSON cannot hold become an object with one key: $tensor, $array, $tuple, $int (hexadecimal), $float (nan, inf, -inf)
    or $items (a dict as pairs, if a key is an int or begins with "$", so that no user's dict looks like a reference).
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.arrays: dict[str, NDArray[Any]] = {}
        self.taken = {"__metadata__"}  # safetensors reserves that name

    def pack(self, value: object, path: tuple[str, ...]) -> Json:
        """The JSON of `value`, which is at `path` in the state. TypeError for a type that could not be restored."""
        # Exact types: a subclass (np.float64, an enum) would silently come back as something else.
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if isinstance(value, int) and kind is int:
            return value if value.bit_length() < 64 else {"$int": hex(value)}  # decimal text is limited to 4300 digits
        if isinstance(value, float) and kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, Tensor):
            check_tensor(value, shown(path))
            name = self.name(path, r"A-Za-z0-9_.\-", "")
            self.tensors[name] = value
            return {"$tensor": name}
        if isinstance(value, np.ndarray) and kind in (np.ndarray, np.memmap):
            check_array(value, shown(path))
            name = self.name(path, r"A-Za-z0-9_\-", ".npy")
            self.arrays[name] = value
            return {"$array": name}
        if isinstance(value, tuple):
            return {"$tuple": [self.pack(item, (*path, str(i))) for i, item in enumerate(value)]}
        if isinstance(value, list):
            return [self.pack(item, (*path, str(i))) for i, item in enumerate(value)]
        if isinstance(value, dict):
            for key in value:
                if type(key) not in (str, int):
                    raise TypeError(f"{shown(path)}: a key of a checkpoint's dict is a str or an int, got {key!r}")
            pairs = [(key, self.pack(item, (*path, str(key)))) for key, item in value.items()]
            if any(isinstance(key, int) or key.startswith("$") for key in value):
                return {"$items": [[self.pack(key, path), item] for key, item in pairs]}
            return dict(pairs)
        hint = " (call .item() first)" if isinstance(value, np.generic) else ""
        raise TypeError(
            f"{shown(path)}: a checkpoint cannot hold a {kind.__module__}.{kind.__qualname__}{hint}; it holds dict, "
            "list, tuple, Tensor, ndarray, int, float, str, bool and None"
        )

    def name(self, path: tuple[str, ...], keep: str, suffix: str) -> str:
        """A new readable name made from `path` and the characters `keep`.

        It need not be reversible (state.json holds the keys), but it is unique even on case-insensitive file systems, and safe as
        a file name: names of arrays contain no dot, so that no folder can have the name of a file.
        """
        plain = "/".join(re.sub(f"[^{keep}]", "_", part)[:100] or "_" for part in path)
        name, count = plain + suffix, 1
        while name.lower() in self.taken:
            count += 1
            name = f"{plain}~{count}{suffix}"
        self.taken.add(name.lower())
        return name


def unpack(node: Json, tensors: dict[str, Tensor], array: Callable[[str], NDArray[Any]]) -> Any:
    """The inverse of `Packer.pack`. ValueError or KeyError for anything that it never writes."""
    if isinstance(node, list):
        return [unpack(item, tensors, array) for item in node]
    if not isinstance(node, dict):
        return node
    if not any(key.startswith("$") for key in node):
        return {key: unpack(item, tensors, array) for key, item in node.items()}
    ((tag, content),) = node.items()
    match tag:
        case "$tensor":
            return tensors[content]
        case "$array":
            return array(content)
        case "$tuple":
            return tuple(unpack(item, tensors, array) for item in content)
        case "$int":
            return int(content, 16)
        case "$float":
            return float(content)
        case "$items":
            return {unpack(key, tensors, array): unpack(item, tensors, array) for key, item in content}
    raise ValueError(f"unknown reference {tag} in state.json")


def shown(path: tuple[str, ...]) -> str:
    """A path in the state, as error messages show it: `learner/optimizer/0`."""
    return "/".join(path) or "state"


def check_tensor(tensor: Tensor, where: str) -> None:
    """TypeError if a checkpoint cannot hold the tensor."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.dtype not in DTYPES:
        raise TypeError(f"{where}: a checkpoint cannot hold a {tensor.layout} {tensor.dtype} tensor on {tensor.device}")


def check_array(array: NDArray[Any], where: str) -> None:
    """TypeError if a checkpoint cannot hold the array."""
    # Some dtypes of other packages would be written as raw bytes and come back as such.
    dtype = array.dtype
    if dtype.hasobject or np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) != dtype:
        raise TypeError(f"{where}: a checkpoint cannot hold an array of dtype {dtype}")
