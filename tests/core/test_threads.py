"""The choice of a number of threads, on a clock of its own."""

from collections.abc import Callable

import pytest

from rlsuite.core.threads import ThreadChoice

Cost = Callable[[int, float], float]  # (threads, time) -> seconds that a piece of work takes


def work(choice: ThreadChoice, cost: Cost, seconds: float, start: float = 0.0) -> tuple[dict[int, float], list[tuple[float, int]]]:
    """Works for `seconds`: the seconds spent with each number of threads, and the changes as (time, threads)."""
    now, spent, changes = start, dict.fromkeys(choice.candidates, 0.0), list[tuple[float, int]]()
    while now < start + seconds:
        threads = choice.now
        took = cost(threads, now)
        now += took
        spent[threads] += took
        if choice.took(took, now):
            changes.append((now, choice.threads))
    return spent, changes


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({1: 0.008, 2: 0.005}, 2),
        ({1: 0.008, 2: 0.080}, 1),
        ({1: 0.0100, 2: 0.0098}, 1),  # not worth a core
        ({1: 4.0, 2: 2.0, 4: 1.5, 8: 1.6}, 4),
        ({1: 1.0, 2: 0.6, 4: 0.5, 8: 5.0, 16: 50.0}, 4),
    ],
)
def test_the_fastest_number_is_chosen(times: dict[int, float], best: int) -> None:
    choice = ThreadChoice(sorted(times))
    work(choice, lambda threads, now: times[threads], 300 * times[best])
    assert choice.threads == best


def test_a_number_that_is_far_slower_costs_little_however_long_the_work() -> None:
    choice = ThreadChoice([1, 2, 4, 8])
    spent, changes = work(choice, lambda threads, now: 1.0 if threads == 1 else 10.0 * threads, 3000.0)
    assert choice.threads == 1
    assert not changes
    assert spent[1] > 0.95 * sum(spent.values())
    assert spent[4] == spent[8] == 0  # 2 are far slower than 1 already


def test_a_neighbour_is_noticed_at_once_and_its_end_within_a_minute() -> None:
    def cost(threads: int, now: float) -> float:
        crowded = 100 <= now < 130
        return {1: 0.010, 2: 0.080}[threads] if crowded else {1: 0.008, 2: 0.005}[threads]

    choice = ThreadChoice([1, 2])
    _, changes = work(choice, cost, 300.0)
    assert [threads for _, threads in changes] == [2, 1, 2]
    assert changes[1][0] < 101.0
    assert 130.0 < changes[2][0] < 195.0


def test_two_numbers_that_are_nearly_equal_do_not_alternate() -> None:
    fast = iter([0.94, 1.06] * 500_000)
    choice = ThreadChoice([1, 2])
    _, changes = work(choice, lambda threads, now: 0.01 if threads == 1 else 0.0095 * next(fast), 1000.0)
    assert len(changes) <= 1


def test_a_slow_first_turn_decides_nothing() -> None:
    """Threads start, and oneDNN chooses its kernels, in the first call with a number of threads."""
    turns = {1: 0, 2: 0}

    def cost(threads: int, now: float) -> float:
        turns[threads] += 1
        return {1: 0.010, 2: 0.006}[threads] * (4 if turns[threads] == 1 else 1)

    choice = ThreadChoice([1, 2])
    work(choice, cost, 1.0)
    assert choice.threads == 2


@pytest.mark.parametrize("phase", [0, 1])
def test_a_pattern_in_the_work_favours_no_number(phase: int) -> None:
    """Every second update is slower, because emulators run beside it."""
    done = 0

    def cost(threads: int, now: float) -> float:
        nonlocal done
        done += 1
        return (0.010 if threads == 1 else 0.007) * (1.4 if done % 2 == phase else 1.0)

    choice = ThreadChoice([1, 2])
    _, changes = work(choice, cost, 300.0)
    assert choice.threads == 2
    assert len(changes) == 1
