"""Schedules as functions of a global count. They keep no counter, so a resumed run continues them exactly."""


def linear(start: float, end: float, over: int, at: int) -> float:
    """A linear schedule: `start` at 0, `end` from the count `over` on. `at` is the current count."""
    fraction = min(1.0, at / over) if over > 0 else 1.0
    return start + fraction * (end - start)


def geometric(start: float, end: float, over: int, at: int) -> float:
    """A geometric schedule between positive numbers: `start` at 0, `end` from the count `over` on. `at` is the current count."""
    fraction = min(1.0, at / over)
    return float(start ** (1 - fraction) * end**fraction)
