"""Parts that commands share: arguments, the app of a family of commands, and printing."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout, and nothing else.")]
ConfigArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG [KEY=VALUE]...", help="A shipped config (rlsuite list configs) or a YAML file, then overrides of its keys."
    ),
]
RunDir = Annotated[Path | None, typer.Option(help="Folder for the run; default: a new one under runs/.")]
Resume = Annotated[Path | None, typer.Option(help="Run folder to continue, with its own config.")]


def _allow(wanted: bool) -> bool:
    if wanted:
        from rlsuite.runs import trust

        trust.allow()
    return wanted


Trust = Annotated[
    bool,
    typer.Option("--trust", callback=_allow, help="Let a run from someone else execute the files and commands that it names."),
]
RunOrCheckpoint = Annotated[
    Path, typer.Argument(help="A run folder (its newest checkpoint), a checkpoint folder, or pretrained:NAME.")
]


def family(**settings: Any) -> typer.Typer:
    """A Typer app for the commands of one file; `main` adds them to its own."""
    return typer.Typer(rich_markup_mode=None, **settings)


def examples(*lines: str) -> str:
    """Example commands as the epilog of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def config_and_overrides(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """Splits the arguments `CONFIG KEY=VALUE ...`; the config is None if the first of them is an override."""
    given = arguments or []
    return (given[0], given[1:]) if given and "=" not in given[0] else (None, given)


def print_json(value: Any) -> None:
    """Prints a value as one line of JSON."""
    print(json.dumps(value, allow_nan=False, default=str))


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Prints named facts as JSON, or as one line each."""
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value)) or "none"
        print(f"{name:<14} {value}")
