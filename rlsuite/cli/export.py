"""`rlsuite export`: saved agents for other programs. Heavy imports are inside the command."""

from pathlib import Path
from typing import Annotated

import typer

from rlsuite.cli.common import Json, RunOrCheckpoint, Trust, examples, family, print_json

app = family()


@app.command(
    epilog=examples(
        "rlsuite export pretrained:pong --out pong-onnx",
        "rlsuite export runs/mine --format torch --out mine-torch",
        "rlsuite export runs/mine --format folder --out share/mine",
    )
)
def export(
    run_or_checkpoint: RunOrCheckpoint,
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    form: Annotated[
        str, typer.Option("--format", help="onnx, torch (a program of torch.export), or folder (weights, config, score, README).")
    ] = "onnx",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Export a saved agent for other programs.

    The net, as ONNX or by torch.export, is compared with the agent's own in the agent's games; docs/export.md has a player without
    rlsuite.
    """
    from rlsuite.evaluation.export import export as write

    facts = write(run_or_checkpoint, form, out)
    if as_json:
        print_json(facts)
    elif "check" in facts:
        check = facts["check"]
        print(
            f"{out}: {facts['parameters']:,} parameters; in {check['observations']:,} observations of its own games, outputs of up "
            f"to {check['largest_output']:.3g} differ by {check['largest_difference']:.2g}, actions are equal in "
            f"{check['equal_actions']:.2%}" + (f" and tied in {check['ties']}" if check["ties"] else "")
        )
    else:
        print(
            f"{out}: {facts['bytes'] / 1e6:.1f} MB of weights" + ("" if facts["score"] is None else f", score {facts['score']:.2f}")
        )
