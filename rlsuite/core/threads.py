"""Chooses the number of threads for a kind of work by measuring how long it takes."""

from collections.abc import Sequence


class ThreadChoice:
    """Chooses the number of threads for one kind of work, by timing it with each of several numbers.

    A trial does the work in turns with each number: once as warm-up, then `SAMPLES` times, or fewer if it is long. Far slower
    numbers drop out early. Trials are repeated once a minute, or as soon as the work takes far longer than before; they cost at
    most 3% of the time.
    """

    SAMPLES = 6
    LONG = 0.5  # seconds of work with a number, after which two samples are enough
    FAR = 1.5  # factor on the time from which a number is far slower
    GAIN = 0.05  # fraction of the time that more threads must save
    EVERY, SOONEST = 60.0, 5.0  # seconds between trials
    MOST_OVERHEAD = 0.03

    def __init__(self, candidates: Sequence[int]):
        """`candidates`: numbers of threads, in increasing order."""
        self.candidates, self.threads, self.usual = list(candidates), candidates[0], float("inf")
        self.recent: float | None = None  # seconds, a running mean
        self._begin_trial()

    def _begin_trial(self) -> None:
        self.left = list(self.candidates)
        self.turns = list(self.candidates)  # of this round
        self.seconds: dict[int, list[float]] = {count: [] for count in self.candidates}
        self.trying = True

    @property
    def now(self) -> int:
        """The threads for the next piece of work."""
        return self.turns[0] if self.trying else self.threads

    def took(self, seconds: float, now: float) -> bool:
        """Records that a piece of work took `seconds` and ended at time `now`; returns whether the chosen number has changed."""
        if self.trying:
            return self._try_next(seconds, now)
        self.recent = seconds if self.recent is None else 0.8 * self.recent + 0.2 * seconds
        if now >= self.next_trial or (now >= self.soonest and self.recent > self.FAR * self.usual):
            self._begin_trial()
        return False

    def _try_next(self, seconds: float, now: float) -> bool:
        count = self.turns.pop(0)
        self.seconds[count].append(seconds)
        first_round = len(self.seconds[count]) == 1
        best = min(self._mean(other) for other in self.left if self.seconds[other])
        if first_round and seconds > 3 * self.FAR * best:  # not only for threads that have just started: more would be no faster
            self.turns, self.left = [], [other for other in self.left if other < count]
        if self.turns:
            return False
        bound = best * (3 * self.FAR if first_round else self.FAR)
        self.left = [other for other in self.left if self._mean(other) <= bound]
        if len(self.left) == 1 or all(self._enough(other) for other in self.left):
            return self._choose(now)
        # Back and forth, so that no number always meets the same half of a pattern, such as every second update beside emulators.
        self.turns = self.left[:: -1 if len(self.seconds[self.left[0]]) % 2 else 1]
        return False

    def _enough(self, count: int) -> bool:
        seen = self.seconds[count][1:]
        return len(seen) >= self.SAMPLES or (len(seen) >= 2 and sum(seen) >= self.LONG)

    def _mean(self, count: int) -> float:
        """Mean seconds, without the first turn and, if there are many, without the longest."""
        seen = sorted(self.seconds[count][1:] or self.seconds[count])
        kept = seen[:-1] if len(seen) >= self.SAMPLES else seen
        return sum(kept) / len(kept)

    def _choose(self, now: float) -> bool:
        before, means = self.threads, {count: self._mean(count) for count in self.left}
        fastest = min(means.values())
        self.threads = min(count for count in self.left if means[count] <= (1 + self.GAIN) * fastest)
        if before in means and means[before] <= (1 + 2 * self.GAIN) * fastest:
            self.threads = before  # so that two nearly equal numbers do not alternate
        self.usual, self.recent, self.trying = means[self.threads], None, False
        lost = sum(sum(seen) - len(seen) * self.usual for seen in self.seconds.values())
        self.next_trial = now + max(self.EVERY, lost / self.MOST_OVERHEAD)
        self.soonest = now + max(self.SOONEST, lost / self.MOST_OVERHEAD)
        return self.threads != before
