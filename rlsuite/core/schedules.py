"""Schedules are functions of a global count. They own no counter, so a resumed run continues them exactly."""


def linear(start: float, end: float, over: int, at: int) -> float:
    """`start` at 0, `end` from `over` on, a straight line between."""
    fraction = min(1.0, at / over) if over > 0 else 1.0
    return start + fraction * (end - start)
