"""Exports a saved agent for other programs: its net as ONNX or as a `torch.export` program, or the run as a folder to share.

An exported net is compared with the agent's own net, on observations of its games, before anything is written. Shapes: B batch.
"""

import importlib.util
import json
import logging
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rlsuite.core.errors import RlsuiteError, UsageError, one_line, unknown
from rlsuite.core.files import writing
from rlsuite.evaluation.export.acting_net import ActingNet, acting_parameters
from rlsuite.evaluation.export.games import BATCH, Inputs, own_games
from rlsuite.evaluation.export.int8 import as_feed, quantise
from rlsuite.evaluation.export.model_card import write_folder
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.version import __version__

FORMATS = ("onnx", "torch", "folder")
OBSERVATIONS = 1_000  # minimum number of observations to compare
TOLERANCE = 1e-3  # relative to the largest score, or to 1 if that is larger
NEAR = 0.02  # relative to the largest continuous action, or to 1 if larger: actions this close count as equal
LEAST_EQUAL = 0.97  # minimum share of equal actions in int8, in other games than those that its layers were chosen by
Run = Callable[[tuple[Tensor, ...]], list[Tensor]]  # inputs -> outputs


class Check(NamedTuple):
    """The result of comparing an exported net with the agent's own."""

    observations: int
    largest_difference: float  # between corresponding outputs
    largest_output: float
    equal_actions: float  # share of the observations
    ties: int  # number of observations in which the two actions differ but their scores do not


def export(path: Path, form: str, out: Path, int8: bool = False) -> dict[str, Any]:
    """Exports a run, a checkpoint or `pretrained:NAME` into the new folder `out`; returns the facts that it also writes there.

    `form`: onnx writes `model.onnx` and torch writes `model.pt2`, each with `model.json`: inputs, outputs, preprocessing, and the
    comparison; folder writes a run folder with weights, config, score and README, which `rlsuite.load` accepts. `int8`: inner
    layers in int8, onnx only. UsageError for an unknown format, a folder that exists, a missing package, or an agent without such a
    net; RlsuiteError for a net that cannot be traced, or whose export differs from it. A failed export leaves nothing on disk.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if int8 and form != "onnx":
        raise UsageError(f"--int8 works with --format onnx, not {form}")
    if out.exists():
        raise UsageError(f"{out} exists already: choose a new folder for --out")
    if form == "onnx" and (
        missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(name)]
    ):
        raise UsageError(f"--format onnx needs {', '.join(missing)}: pip install 'rlsuite[export]'")
    with _all_or_nothing(out) as beside:
        return write_folder(path, beside, out.name) if form == "folder" else _write_net(path, form, beside, int8)


@contextmanager
def _all_or_nothing(out: Path) -> Iterator[Path]:
    """Context with a temporary folder to write to, which is renamed to `out` at the end, or removed after an error."""
    beside = out.with_name(f".{out.name}.partial")
    new = [folder for folder in out.parents if not folder.exists()]  # the innermost first
    with writing(out):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            yield beside
            beside.rename(out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            for folder in new:
                with suppress(OSError):  # it is not empty: the export is in it
                    folder.rmdir()


def _write_net(path: Path, form: str, folder: Path, int8: bool) -> dict[str, Any]:
    saved = Saved(path, changes={"learner": {"precision": "fp32"}})
    net = ActingNet(saved.agent, saved.spec, saved.net).eval()
    facts = _facts(saved, net, form, int8)
    program, names = traced(net, str(saved.path)), [port.name for port in net.inputs]
    if form == "onnx":
        write_onnx(program, net, facts, folder / "model.onnx")
        if int8:
            seen = list(own_games(saved, net, -(-OBSERVATIONS // BATCH), seed=1))

            def agrees(model: Path) -> float:
                found = _compare(net, runs_onnx(model, names), seen, bool(saved.spec.action_shape))
                return found.equal_actions + found.ties / found.observations

            facts["int8_layers"] = quantise(folder / "model.onnx", [as_feed(names, given) for given in seen], agrees)
        run = runs_onnx(folder / "model.onnx", names)
    else:
        torch.export.save(program, folder / "model.pt2")
        run = _runs_torch(torch.export.load(folder / "model.pt2"))
    facts["check"] = compared(saved, net, run, int8=int8)._asdict()
    (folder / "model.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def _facts(saved: Saved, net: ActingNet, form: str, int8: bool) -> dict[str, Any]:
    """The facts that another program needs to use the net."""
    config = saved.config
    facts = {
        "format": form,
        "precision": "int8" if int8 else "fp32",
        "rlsuite": __version__,
        "agent": config.agent.name,
        "agent_steps": saved.agent_steps,
        "seed": config.seed,
        "inputs": [port._asdict() for port in net.inputs],
        "outputs": [port._asdict() for port in net.outputs],
        "environment": {key: value for key, value in config.env.model_dump(mode="json").items() if key != "num_envs"},
        **_spaces(saved),
        "parameters": acting_parameters(net.net),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))  # tuples become lists
    return plain


def _spaces(saved: Saved) -> dict[str, Any]:
    """The environment's own spaces, if the agent's observations or actions are converted from or to them."""
    spec, found = saved.spec, dict[str, Any]()
    if spec.observation_space is not None:
        found["observation_space"] = spec.observation_space
    if spec.action_space is not None:
        found["action_space"] = spec.action_space
    return found


def traced(net: ActingNet, what: str) -> torch.export.ExportedProgram:
    """The net as a program for batches of any size. RlsuiteError, with the name of the module in `what`, if it cannot be traced."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        with torch.no_grad():
            return torch.export.export(
                net, net.example(2), dynamic_shapes={"given": tuple({0: batch} for _ in net.inputs)}, strict=False
            )
    except Exception as error:  # tracing may raise anything
        name = _module(error, net.net)
        where = f" in {name}, a {type(net.net.get_submodule(name)).__name__}" if name else ""
        raise RlsuiteError(f"the net of {what} cannot be traced{where}: {one_line(error)[:300]}") from error


def _module(error: BaseException, net: nn.Module) -> str:
    """The name of the innermost module of a net in which an error was raised; "" if it was not raised in a module."""
    names, found = {id(module): name for name, module in net.named_modules()}, ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = names.get(id(frame.f_locals.get("self")), found)
    return found


def _runs_torch(program: torch.export.ExportedProgram) -> Run:
    module = program.module()
    return lambda given: list(module(*given))


def write_onnx(program: torch.export.ExportedProgram, net: ActingNet, facts: dict[str, Any], path: Path) -> None:
    """Writes the net as ONNX, with `facts` as its metadata."""
    import onnx

    names = [port.name for port in net.inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's warnings about its own code
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns about every torchvision operator; none is needed
        try:
            converted = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=names, output_names=[port.name for port in net.outputs]
            )
        except Exception as error:  # the converter may raise anything, with a report of many lines
            reason = one_line(error.__cause__ or error)[:300]
            raise RlsuiteError(f"the net cannot be written as ONNX, use --format torch: {reason}") from error
    assert converted is not None
    model = converted.model_proto
    model.metadata_props.append(onnx.StringStringEntryProto(key="rlsuite", value=json.dumps(facts)))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def runs_onnx(path: Path, names: list[str]) -> Run:
    """A function that runs an ONNX file with onnxruntime, on one thread; `names`: the names of its inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(given: tuple[Tensor, ...]) -> list[Tensor]:
        return [torch.from_numpy(np.asarray(found)) for found in session.run(None, as_feed(names, given))]

    return run


def compared(saved: Saved, net: ActingNet, run: Run, seed: int = 0, int8: bool = False) -> Check:
    """Compares an exported net with the agent's own net in the agent's games. RlsuiteError if they differ by more than rounding.

    With `int8`, RlsuiteError if their actions differ in more than a few observations, or if results are not finite.
    """
    games = own_games(saved, net, -(-OBSERVATIONS // BATCH), seed)
    check = _compare(net, run, games, bool(saved.spec.action_shape))
    chosen = check.equal_actions + check.ties / check.observations
    if int8 and np.isfinite(check.largest_difference) and chosen >= LEAST_EQUAL:
        return check
    if int8 or not check.largest_difference <= TOLERANCE * max(check.largest_output, 1.0) or round(chosen, 9) < 1:
        raise RlsuiteError(
            f"the exported net differs from the agent's: by {check.largest_difference:.2g} in scores of up to "
            f"{check.largest_output:.2g}, with {check.equal_actions:.1%} equal actions in {check.observations:,} observations"
        )
    return check


def _compare(net: ActingNet, run: Run, games: Iterable[Inputs], continuous: bool) -> Check:
    count = ties = equal = 0
    difference = largest = 0.0
    for given in games:
        with torch.no_grad():
            own, found = net(*given), run(given)
        for a, b in zip(own, found, strict=True):
            difference = float(np.maximum(difference, float((a.double() - b.double()).abs().max())))  # a NaN stays
            if a is own[0]:
                largest = max(largest, float(a[a > -1e8].abs().max()))
        count += len(own[0])
        if continuous:
            apart = (own[0] - found[0]).abs().amax(-1)
            equal += int((apart <= NEAR * max(largest, 1.0)).sum())
            continue
        chosen, other = own[0].argmax(-1), found[0].argmax(-1)
        differ = chosen != other
        near = own[0].max(-1).values - own[0].gather(1, other[:, None])[:, 0] <= 2 * TOLERANCE * max(largest, 1.0)
        equal += int((~differ).sum())
        ties += int((differ & near).sum())
    return Check(count, difference, largest, equal / count, ties)
