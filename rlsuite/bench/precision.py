"""precision: one call of an acting net in fp32, bf16 and int8, for small, Nature and IMPALA torsos. Shapes: B batch."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlsuite.bench.measure import DUELING, PONG, BenchSettings, Row, Work, alternate, config, lacking, repeated
from rlsuite.evaluation.export import runs_onnx, traced, write_onnx
from rlsuite.evaluation.export.acting_net import ActingNet
from rlsuite.evaluation.export.int8 import as_feed, quantise
from rlsuite.factories import make_agent
from rlsuite.nets.precision import Precision, inference

TORSOS, BATCHES = ("small", "nature", "impala"), (1, 32, 256)


def bench_precision(settings: BenchSettings) -> list[Row]:
    """Observations per second of acting nets: all inner layers in int8 by ONNX Runtime, against fp32 in torch; all on the CPU."""
    if lacking(["onnx", "onnxscript", "onnxruntime"]):
        return [Row("precision", "int8 needs pip install 'rlsuite[export]'", "obs/s", None)]
    rows = []
    for torso in TORSOS:
        calls = _calls(settings, torso)
        for batch in BATCHES:
            seen = torch.randint(256, (batch, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
            work = {name: _work(call, seen, batch) for name, call in calls.items()}
            rates = alternate(f"precision {torso} {batch}", work, settings)
            told = ", ".join(f"{name} {batch / rate * 1000:.3g}" for name, rate in rates.items())
            what = f"{torso} torso, batches of {batch}: int8 by ONNX Runtime against fp32 by torch; ms a batch: {told}"
            rows.append(Row("precision", what, "obs/s", rates["int8"], rates["fp32"]))
    return rows


def _calls(settings: BenchSettings, torso: str) -> dict[str, Callable[[torch.Tensor], Any]]:
    """One call of the same net in each precision."""
    setup = config(settings, DUELING, net={"torso": torso})
    agent = make_agent(setup, PONG)
    net: nn.Module = agent.make_net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    low = Precision(agent.make_net().requires_grad_(False).to(memory_format=torch.channels_last), bf16=True).net  # type: ignore[call-overload]
    acting, half = ActingNet(agent, PONG, net).eval(), ActingNet(agent, PONG, nn.Identity()).eval()
    half.net = low

    def fp32(seen: torch.Tensor) -> Any:
        with inference(torch.device("cpu"), False):
            return acting(seen)

    def bf16(seen: torch.Tensor) -> Any:
        with inference(torch.device("cpu"), True):
            return half(seen)

    names = [port.name for port in acting.inputs]
    with tempfile.TemporaryDirectory() as folder:
        place, other = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        for path in (place, other):
            write_onnx(traced(acting, torso), acting, {}, path)
        seen = torch.randint(256, (8, 4, 84, 84), dtype=torch.uint8)
        quantise(other, [as_feed(names, (seen,))], lambda path: 1.0)
        whole, eighth = runs_onnx(place, names), runs_onnx(other, names)
    return {"fp32": fp32, "bf16": bf16, "onnx": lambda seen: whole((seen,)), "int8": lambda seen: eighth((seen,))}


def _work(call: Callable[[torch.Tensor], Any], seen: torch.Tensor, batch: int) -> Work:
    return repeated(lambda: call(seen), batch)
