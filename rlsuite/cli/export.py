"""`rlsuite export`: saved agents for other programs. Heavy imports are inside the command."""

from pathlib import Path
from typing import Annotated

import typer

from rlsuite.cli.common import Json, RunOrCheckpoint, Trust, examples, family, print_json

app = family()


@app.command(
    epilog=examples(
        "rlsuite export pretrained:pong --out pong-onnx",
        "rlsuite export runs/connect_four --int8 --out connect-four-int8",
        "rlsuite export runs/mine --format torch --out mine-torch",
        "rlsuite export runs/mine --format folder --out share/mine",
    )
)
def export(
    run_or_checkpoint: RunOrCheckpoint,
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    form: Annotated[
        str, typer.Option("--format", help="onnx, torch (a torch.export program), or folder (weights, config, score, README).")
    ] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the inner layers to int8, for --format onnx.")] = False,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Export a saved agent for other programs.

    An ONNX or torch.export net is checked against the agent's own net on the agent's games. docs/export.md shows how to use it
    without rlsuite.
    """
    from rlsuite.evaluation.export import export as write

    facts = write(run_or_checkpoint, form, out, int8)
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


@app.command(epilog=examples("rlsuite push runs/mine me/my-agent", "rlsuite push pretrained:pong me/pong --private"))
def push(
    run_or_checkpoint: RunOrCheckpoint,
    repository: Annotated[str, typer.Argument(help="Repository on the hub, user/name; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Upload a saved agent to a model hub.

    Uploads the files of `rlsuite export --format folder` with huggingface-hub, using the token from HF_TOKEN or `hf auth login`.
    """
    from rlsuite.evaluation.export.hub import push as send

    address = send(run_or_checkpoint, repository, private)
    print_json({"address": address}) if as_json else print(address)


@app.command(epilog=examples("rlsuite pull me/my-agent --out runs/mine", "rlsuite evaluate runs/mine"))
def pull(
    repository: Annotated[str, typer.Argument(help="Repository on the hub, user/name.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default: main.")] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Download a saved agent from a model hub.

    Every file is checked, and nothing that could run code is downloaded.
    """
    from rlsuite.evaluation.export.hub import pull as fetch

    saved = fetch(repository, out, revision)
    facts = {"run": str(out), "agent": saved.config.agent.name, "env": saved.config.env.id, "agent_steps": saved.agent_steps}
    print_json(facts) if as_json else print(f"{out}: {facts['agent']} on {facts['env']}, {saved.agent_steps:,} agent steps")


@app.command(
    epilog=examples(
        "rlsuite train atari/pong learner.prune.share=0.5 learner.prune.what=channels", "rlsuite shrink runs/mine --out runs/small"
    )
)
def shrink(
    run_or_checkpoint: RunOrCheckpoint,
    out: Annotated[Path, typer.Option(help="New run folder to write.")],
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Remove channels and units that pruning has set to 0 from the net of a run.

    The result is an ordinary run whose agent chooses the same actions.
    """
    from rlsuite.evaluation.shrink import shrink as cut

    found = cut(run_or_checkpoint, out)
    if as_json:
        print_json({**found._asdict(), "before": found.before._asdict(), "after": found.after._asdict()})
    else:
        print(
            f"{out}: {found.after.parameters:,} of {found.before.parameters:,} parameters, {found.after.macs:,} of "
            f"{found.before.macs:,} multiply-accumulate operations; net.torso={found.torso} net.hidden={found.hidden}"
        )
