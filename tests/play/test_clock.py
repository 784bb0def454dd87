"""The time for a move, and how often a search looks at the clock."""

import pytest

from rlsuite.play import clock
from rlsuite.play.clock import Clock, Left, Pace


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        (Left(50.0), 2.0),  # 25 moves are expected
        (Left(50.0, 10), 5.0),
        (Left(50.0, 0, 1.5), 3.5),
        (Left(5.0, 1), 4.9),  # something is kept for the answer's way
        (Left(1.0, 1, 10.0), 0.9),  # the increment comes after the move
        (Left(0.05), 0.0),
        (Left(-3.0), 0.0),
    ],
)
def test_the_time_for_a_move(left: Left, seconds: float) -> None:
    assert left.for_move() == pytest.approx(seconds)


def test_time_settings_of_gtp() -> None:
    it = Clock()
    assert it.seconds(0) is None
    it.set(0, 5, 1)
    assert it.seconds(0) == pytest.approx(4.9)
    it.spend(0, 4.0)
    assert it.seconds(0) == pytest.approx(4.9)  # a new period for every move
    it.set(100, 0, 0)
    it.spend(0, 50.0)
    assert it.seconds(0) == pytest.approx(2.0)
    assert it.seconds(1) == pytest.approx(4.0)
    it.set(10, 30, 5)
    assert it.seconds(0) == pytest.approx(10 / 25 + 6)  # what byo-yomi gives for a move, and a share of the main time
    it.spend(0, 8.0)
    assert it.seconds(0) == pytest.approx(6.0)  # less main time is left than byo-yomi gives
    for _ in range(4):
        it.spend(0, 7.0)
    assert it.seconds(0) == pytest.approx(1.9)  # 2 of the 30 seconds, for the last of 5 stones
    it.spend(0, 1.0)
    assert it.seconds(0) == pytest.approx(6.0)
    it.set(0, 1, 0)
    assert it.seconds(0) is None  # byo-yomi without stones: no limit


def test_what_the_controller_says_is_left_counts() -> None:
    it = Clock()
    it.set_left(0, 50.0, 10)
    assert it.seconds(0) == pytest.approx(5.0)
    it.set(600, 30, 1, periods=True)
    it.set_left(1, 30.0, 4)  # four periods of Japanese byo-yomi, each for one move
    assert it.seconds(1) == pytest.approx(29.9)
    it.reset()
    assert it.seconds(1) == pytest.approx(600 / 25 + 30)


class Search:
    """A search in which a batch has a price of its own and each simulation another, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, batch: float, simulation: float, largest: int = 10**6):
        self.now, self.made, self.batch, self.simulation, self.largest = 100.0, 0, batch, simulation, largest
        self.sizes, self.looks = list[int](), list[float]()
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.now)

    def cost(self, simulations: int) -> float:
        return self.batch + simulations * self.simulation

    def run(self, pace: Pace, most: int = 10**6) -> None:
        self.now += self.cost(1)  # of the root
        while not pace.over(self.made) and self.made < most:
            size = min(pace.chunk, self.largest)
            self.sizes.append(size)
            self.looks.append(self.cost(size))
            self.now += self.cost(size)
            self.made += size


@pytest.mark.parametrize("batch", [0.0, 2e-4, 0.003, 0.03], ids=["rollouts", "python", "gpu", "cpu"])
@pytest.mark.parametrize("simulation", [1e-6, 1e-4, 0.002, 0.02])
@pytest.mark.parametrize("seconds", [0.1, 0.9])
def test_a_deadline_is_kept_whatever_a_simulation_costs(
    monkeypatch: pytest.MonkeyPatch, batch: float, simulation: float, seconds: float
) -> None:
    it = Search(monkeypatch, batch, simulation, 16)
    pace = Pace(it.now + seconds)
    it.run(pace)
    assert pace.deadline is not None
    assert -max(4 * it.cost(1), 0.005) <= it.now - pace.deadline <= 0.005  # the time is used, and hardly overstepped
    assert max(it.looks, default=0) <= max(seconds / 8, 0.01, 2 * it.cost(1)) * 1.5


def test_batches_grow_where_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A net on a CPU: 30 ms for one position, 1 ms more for each further one."""
    it = Search(monkeypatch, 0.03, 0.001, 16)
    it.run(Pace(it.now + 2.0))
    assert it.sizes[0] <= 2
    assert it.made > 0.7 * (2.0 / it.cost(16) * 16)


def test_no_time_is_no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Search(monkeypatch, 0.0, 0.01)
    it.run(Pace(it.now))
    assert it.made == 0


def test_a_deadline_can_be_set_while_the_search_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Search(monkeypatch, 0.0, 0.001)
    pace = Pace()
    it.run(pace, 500)
    assert it.made >= 500
    pace.deadline = it.now + 0.1
    it.run(pace)
    assert it.now == pytest.approx(pace.deadline, abs=0.005)


def test_a_search_without_a_clock_is_cut_into_equal_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Search(monkeypatch, 0.0, 1.0)
    it.run(Pace(timed=False), 640)
    assert it.sizes == [64] * 10
