"""Quantisation of an exported net to int8 (Jacob et al. 2018): weights per output channel, activations by their observed ranges.

ONNX Runtime does this after training, without gradients. Of the methods that were tried, only its kernels need no compiler on the
machine that uses the net, and the file is in the format that `export` writes anyway.

The first and the last layers stay in fp32: the first sees bytes, and the last has to separate scores that are close together. Other
layers stay in fp32 if quantising them would change too many actions: one range for a whole feature map can lose a small ball beside
a bright wall.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlsuite.core.errors import RlsuiteError, UsageError

LEAST_EQUAL = 0.99  # minimum share of the agent's actions that must stay the same
_LAYERS = ("Conv", "Gemm", "MatMul")
Feed = dict[str, NDArray[Any]]  # the inputs of a call, by name


def quantise(path: Path, feeds: list[Feed], agrees: Callable[[Path], float]) -> list[str]:
    """Replaces the ONNX file by one in int8; returns the names of the quantised layers, the least sensitive first.

    `feeds`: inputs from games, for calibration. `agrees`: the share of observations in which a file chooses the same action as the
    agent. Layers are quantised in the order of how much each changes alone, as long as at least `LEAST_EQUAL` of the actions stay
    the same. UsageError if the net has no layer between the first and the last, RlsuiteError if none of them can be quantised.
    """
    folded, trial = path.with_suffix(".folded.onnx"), path.with_suffix(".int8.onnx")
    try:
        return _quantised(path, folded, trial, feeds, agrees)
    finally:
        for one in (folded, trial):
            one.unlink(missing_ok=True)


def _quantised(path: Path, folded: Path, trial: Path, feeds: list[Feed], agrees: Callable[[Path], float]) -> list[str]:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(path), str(folded), skip_symbolic_shape=True)  # symbolic shapes fail on some nets
    model = onnx.load(folded)
    layers = [node.name for node in model.graph.node if node.op_type in _LAYERS and _has_weights(node, model)]
    keep = {layers[0], *_last(model, layers)} if layers else set()
    inner = [name for name in layers if name not in keep]
    if not inner:
        raise UsageError(
            f"--int8: the net has {len(layers)} layers with weights and none between the first and the last, which stay in fp32"
        )

    def equal(names: list[str]) -> float:
        _write(folded, trial, feeds, names)
        return agrees(trial)

    alone = {name: equal([name]) for name in inner}
    chosen: list[str] = []
    for name in sorted(inner, key=lambda name: -alone[name]):
        if equal([*chosen, name]) >= LEAST_EQUAL:
            chosen.append(name)
    if not chosen:
        best = max(alone.values())
        raise RlsuiteError(
            f"--int8: no layer can be in int8 without changing more than {1 - LEAST_EQUAL:.0%} of the agent's actions: the least "
            f"sensitive one changes {1 - best:.1%}; its scores lie too close together, a distilled student's lie further apart "
            "(rlsuite distill)"
        )
    _write(folded, path, feeds, chosen)
    written = onnx.load(path)
    onnx.helper.set_model_props(written, {one.key: one.value for one in model.metadata_props})
    onnx.save(written, path)
    return chosen


def _write(source: Path, out: Path, feeds: list[Feed], layers: list[str]) -> None:
    """Writes an ONNX file with these layers in int8."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self.feeds, None)

    quantize_static(
        str(source),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_quantize=layers,
    )


def _has_weights(node: Any, model: Any) -> bool:
    known = {one.name for one in model.graph.initializer}
    return any(name in known for name in node.input)


def _last(model: Any, layers: list[str]) -> set[str]:
    """The last layers: those with no other layer between them and an output."""
    makes = {name: node for node in model.graph.node for name in node.output}
    found, seen = set(), set()
    queue = [one.name for one in model.graph.output]
    while queue:
        name = queue.pop()
        node = makes.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.name in layers:
            found.add(node.name)
        else:
            queue += node.input
    return found


def as_feed(names: list[str], given: tuple[Any, ...]) -> Feed:
    """Tensors as the named inputs of a call."""
    return {name: np.asarray(tensor) for name, tensor in zip(names, given, strict=True)}
