"""Names with parameters, the way games, torsos and opponents are written: `go(size=9,komi=7.5)`."""

import contextlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from pydantic import AfterValidator

from rlsuite.core.errors import UsageError, unknown

_CALL = re.compile(r"^\s*((?:[^()]+\.py:)?[A-Za-z_][A-Za-z_0-9]*)\s*(?:\((.*)\))?\s*$")


def parse_call(what: str, text: str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters of a spec: `go(size=9)` -> ("go", {"size": 9}).

    A name may also be `file.py:Name`. A string with commas or parentheses is written in quotes:
    `gtp(command="engine --options a,b")`. UsageError for anything else, which says that the text names no `what`.
    """
    match = _CALL.match(text)
    if match is None:
        raise UsageError(f"{text!r} names no {what}: write it as a name, or as name(key=value,...)")
    parameters = {}
    for part in split_calls(match[2] or ""):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UsageError(f"{text}: {part.strip()!r} must read key=value")
        parameters[key] = _value(value)
    return match[1], parameters


def write_call(name: str, parameters: dict[str, Any]) -> str:
    """The spec that `parse_call` reads as this name and these parameters."""
    if not parameters:
        return name
    return f"{name}({','.join(f'{key}={_quoted(value)}' for key, value in parameters.items())})"


def _quoted(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, str) or not set(text) & set(",()\"'"):
        return text
    quote = "'" if '"' in text else '"'
    return f"{quote}{text}{quote}"


def split_calls(text: str) -> list[str]:
    """The text split at commas outside parentheses and quotes: specs such as `inverted,hue(degrees=120)`, or their parameters."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if char in "\"'" and quote in ("", char):
            quote = "" if quote else char
        if not quote:
            depth += (char == "(") - (char == ")")
        if char == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return [] if parts == [""] or not text.strip() else parts


def check_keywords(what: str, make: Callable[..., Any], parameters: dict[str, Any], skip: int = 0) -> None:
    """UsageError with the nearest name if `make` does not accept a keyword. The first `skip` parameters are not for users."""
    allowed = list(inspect.signature(make).parameters)[skip:]
    for key in parameters:
        if not allowed:
            raise UsageError(f"unknown parameter of {what} {key!r}: it takes none")
        if key not in allowed:
            raise unknown(f"parameter of {what}", key, allowed)


def read_by(read: Callable[[str], Any]) -> AfterValidator:
    """A validator of a config key: refuses what `read` refuses with a UsageError. If `read` returns a string, that is the value."""

    def checked(value: str) -> str:
        try:
            found = read(value)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return found if isinstance(found, str) else value

    return AfterValidator(checked)


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
