"""Errors that a user can act on. The command line prints them as one line and exits with their code."""

import difflib
from collections.abc import Iterable


class RlsuiteError(Exception):
    """Something failed while running (exit code 1)."""

    exit_code = 1
    details = ""  # lines to print above the message, such as the traceback of another process


class UsageError(RlsuiteError):
    """A request that is impossible as written, such as a bad config, name or path (exit code 2)."""

    exit_code = 2


class CheckpointError(RlsuiteError):
    """A checkpoint could not be written or cannot be trusted (exit code 1)."""


class NotFiniteError(RlsuiteError):
    """A loss, a priority or a weight is not finite (exit code 1): what was trained last must not be kept."""


class EnvError(RlsuiteError):
    """An environment raised while it was stepped or reset (exit code 1); another instance of it may go on."""


class OpponentError(RlsuiteError):
    """An opponent's program crashed or gave an invalid answer (exit code 1); the training itself is sound."""


def nearest(name: str, options: Iterable[str], count: int = 3) -> list[str]:
    """The options closest to `name`, best first; case is ignored."""
    by_lower = {option.lower(): option for option in options}
    return [by_lower[hit] for hit in difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=0.4)]


def unknown(what: str, name: str, options: Iterable[str]) -> UsageError:
    """The error for a name that does not exist: `unknown agent 'dqm'; did you mean dqn? (known: ...)`."""
    known = sorted(options)
    close = nearest(name, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    listed = ", ".join(known) if len(known) <= 40 else f"{len(known)} names"
    return UsageError(f"unknown {what} {name!r}{hint} (known: {listed})")


def one_line(error: BaseException) -> str:
    """An error as one line of text: its message, after its type unless the error is an RlsuiteError."""
    text = " ".join(str(error).split())
    if isinstance(error, RlsuiteError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
