"""The command line. Heavy imports are inside the commands, so that `--help` is fast.

Exit codes: 0 done, 1 failed, 2 impossible request, 130 stopped by Ctrl-C, SIGTERM or a closed terminal (after a checkpoint).
"""

import atexit
import signal
import sys
from typing import Annotated, NoReturn

import typer

from rlsuite.cli import bench, configs, doctor, evaluate, export, play, study, train, vision
from rlsuite.cli.common import HELP_OPTIONS, family
from rlsuite.core.console import say
from rlsuite.core.errors import RlsuiteError
from rlsuite.version import __version__

app = family(
    help="Reinforcement-learning agents for Atari and board games, the same on a laptop and on a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
    epilog="Start with: rlsuite train atari/pong     Then: rlsuite evaluate runs/...",
)
for commands in (train, evaluate, export, study, play, configs, doctor, bench):
    app.add_typer(commands.app)
app.add_typer(vision.app, name="vision")


def main() -> None:
    """Runs the command in sys.argv. Expected errors become one line on stderr and an exit code."""
    atexit.register(_ignore_signals)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except typer.Abort:
        sys.exit(130)
    except RlsuiteError as error:
        _fail(str(error), error.exit_code, error.details)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())  # type: ignore[attr-defined]
            sys.exit(2)
        if hasattr(error, "format_message"):  # a usage error of the option parser
            _fail(error.format_message(), 2)
        raise


def _ignore_signals() -> None:
    """Ignores signals from here on: one that comes while Python shuts down must not replace the command's exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _fail(message: str, code: int, details: str = "") -> NoReturn:
    if details:
        say(details)
    say(f"rlsuite: {' '.join(message.split())}")
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass
