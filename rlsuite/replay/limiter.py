"""Limiters, which decide whether a replay may sample or insert, by the ratio of samples to inserts. They never block."""

import math
from collections.abc import Mapping

from rlsuite.core.errors import CheckpointError


class SamplesPerInsert:
    """A limiter that keeps `sampled` (items) at `ratio` times `inserted` (agent steps, not counting the first `min_size`).

    Sampling is allowed once `inserted >= min_size` and while

        sampled + n <= ratio * (inserted - min_size) + n

    The slack is the batch itself. So the first batch comes exactly at `min_size`, and sampling is never more than one batch
    ahead of the ratio: after any number of rounds of "insert an unroll, sample while allowed", `sampled` lies in
    (budget, budget + batch], where budget = ratio * (inserted - min_size).

    `tolerance` (in inserts) limits how far inserts may run ahead of sampling: `inserted` stays within
    min_size + sampled / ratio + tolerance. None: inserts are never refused. An insert is never refused while sampling is, so
    that an unroll larger than the tolerance cannot block everything: the limit is then max(tolerance, unroll).

    On resume, the constructor's config applies, not the saved one. If `ratio` and `min_size` are unchanged, counting continues
    exactly. If one of them has changed, counting restarts at the loaded point: earlier inserts and samples neither have to be
    caught up with (no flood of samples) nor delay new ones (no blocked store). Sampling continues with one batch at once, or when
    `inserted` reaches a `min_size` that is still ahead, and follows the new ratio from there. `inserted` and `sampled` remain the
    totals of the whole run.
    """

    def __init__(self, ratio: float, min_size: int, tolerance: float | None = None) -> None:
        if not 0.0 < ratio < math.inf:
            raise ValueError(f"ratio must be finite and > 0, got {ratio}")
        if min_size < 1:
            raise ValueError(f"min_size must be at least 1 (an empty store has nothing to sample), got {min_size}")
        if tolerance is not None and not tolerance >= 0.0:
            raise ValueError(f"tolerance must be at least 0 inserts, or None, got {tolerance}")
        self.ratio, self.min_size, self.tolerance = float(ratio), int(min_size), tolerance
        self.inserted = 0
        self.sampled = 0
        # The point from which the ratio holds: (min_size, 0), unless a resume has changed the config.
        self._inserted_from = self.min_size
        self._sampled_from = 0

    def can_insert(self, n: int) -> bool:
        """Whether `n` >= 1 more agent steps may be inserted now."""
        _check_count(n, 1)
        if self.tolerance is None or not self.can_sample(1):
            return True
        return self._ahead() + n * self.ratio <= self.tolerance * self.ratio

    def can_sample(self, n: int) -> bool:
        """Whether a batch of `n` >= 1 items may be drawn now."""
        _check_count(n, 1)
        return self.inserted >= self.min_size and self._ahead() >= 0.0

    def did_insert(self, n: int) -> None:
        """Counts `n` >= 0 agent steps that were inserted."""
        _check_count(n, 0)
        self.inserted += n

    def did_sample(self, n: int) -> None:
        """Counts `n` >= 0 items that were drawn."""
        _check_count(n, 0)
        self.sampled += n

    def state_dict(self) -> dict[str, int | float]:
        """The counts, and the config that they were made with."""
        return {
            "inserted": self.inserted,
            "sampled": self.sampled,
            "inserted_from": self._inserted_from,
            "sampled_from": self._sampled_from,
            "ratio": self.ratio,
            "min_size": self.min_size,
        }

    def load_state_dict(self, state: Mapping[str, int | float]) -> None:
        """Restores the counts, but not the config (see the class). CheckpointError if a count is missing or negative."""
        names = ("inserted", "sampled", "inserted_from", "sampled_from")
        missing = [name for name in (*names, "ratio", "min_size") if name not in state]
        if missing:
            raise CheckpointError(f"limiter state lacks {', '.join(missing)}")
        inserted, sampled, inserted_from, sampled_from = (int(state[name]) for name in names)
        if min(inserted, sampled, inserted_from, sampled_from) < 0:
            raise CheckpointError(f"limiter state has a negative count: {dict(state)}")
        if (state["ratio"], state["min_size"]) != (self.ratio, self.min_size):
            inserted_from, sampled_from = max(inserted, self.min_size), sampled
        self.inserted, self.sampled = inserted, sampled
        self._inserted_from, self._sampled_from = inserted_from, sampled_from

    def _ahead(self) -> float:
        """Number of items that may still be sampled; negative: sampling has to wait for inserts."""
        return self.ratio * (self.inserted - self._inserted_from) - (self.sampled - self._sampled_from)


class Unlimited(SamplesPerInsert):
    """A limiter that refuses and counts nothing, for one of several replay shards that another limiter paces together."""

    def __init__(self) -> None:
        super().__init__(ratio=1.0, min_size=1)

    def can_sample(self, n: int) -> bool:
        return True

    def did_insert(self, n: int) -> None:
        pass

    def did_sample(self, n: int) -> None:
        pass

    def state_dict(self) -> dict[str, int | float]:
        return {}

    def load_state_dict(self, state: Mapping[str, int | float]) -> None:
        pass


def _check_count(n: int, least: int) -> None:
    if n < least:
        raise ValueError(f"expected a count of at least {least}, got {n}")
