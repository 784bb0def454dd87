"""The limiter's arithmetic, by hand."""

import pytest

from rlsuite.core.errors import CheckpointError
from rlsuite.replay.limiter import SamplesPerInsert, Unlimited


def alternate(limiter: SamplesPerInsert, unroll: int, batch: int, unrolls: int) -> list[int]:
    """The local loop; returns the number of batches after each unroll."""
    batches = []
    for _ in range(unrolls):
        limiter.did_insert(unroll)
        before = limiter.sampled
        while limiter.can_sample(batch):
            limiter.did_sample(batch)
            assert limiter.sampled - before < 1000 * batch, "a flood"
        batches.append((limiter.sampled - before) // batch)
    return batches


def test_dqn_learns_every_fourth_step_from_min_size_on() -> None:
    limiter = SamplesPerInsert(ratio=8.0, min_size=10)  # a batch of 32 every 4 steps
    assert alternate(limiter, unroll=1, batch=32, unrolls=20) == [0] * 9 + [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0]


def test_unrolls_larger_than_the_interval() -> None:
    limiter = SamplesPerInsert(ratio=8.0, min_size=10)
    # budgets after each unroll of 12: 16, 112, 208 items; batches go on until one lies beyond
    assert alternate(limiter, unroll=12, batch=32, unrolls=3) == [1, 3, 3]


@pytest.mark.parametrize("ratio", [0.25, 1.0, 8.0, 1 / 3, 0.29])
@pytest.mark.parametrize(("unroll", "batch"), [(1, 1), (4, 32), (7, 5), (100, 32)])
def test_the_ratio_is_exact_within_one_batch(ratio: float, unroll: int, batch: int) -> None:
    limiter = SamplesPerInsert(ratio, min_size=50)
    for _ in range(500):
        alternate(limiter, unroll, batch, 1)
        budget = ratio * (limiter.inserted - 50)
        if budget >= 0:
            assert budget < limiter.sampled <= budget + batch
        else:
            assert limiter.sampled == 0


def test_asking_changes_nothing() -> None:
    limiter = SamplesPerInsert(1.0, 1, tolerance=4)
    limiter.did_insert(1)
    for _ in range(10):
        assert limiter.can_sample(32)
        assert limiter.can_insert(4)
        assert not limiter.can_insert(5)
    assert (limiter.inserted, limiter.sampled) == (1, 0)


def test_inserts_are_never_refused_without_a_tolerance() -> None:
    limiter = SamplesPerInsert(1.0, 1)
    limiter.did_insert(10**9)
    assert limiter.can_insert(10**9)


def test_tolerance_by_hand() -> None:
    limiter = SamplesPerInsert(ratio=2.0, min_size=10, tolerance=6)
    limiter.did_insert(10)
    assert [limiter.can_insert(n) for n in (6, 7)] == [True, False]
    limiter.did_insert(6)  # 10 + 0 / 2 + 6
    assert not limiter.can_insert(1)
    limiter.did_sample(8)  # room for 8 / 2 = 4 more
    assert [limiter.can_insert(n) for n in (4, 5)] == [True, False]


@pytest.mark.parametrize("tolerance", [0.0, 3.0, 50.0])
@pytest.mark.parametrize(("unroll", "batch", "ratio"), [(1, 32, 8.0), (20, 4, 0.5), (7, 7, 1.0)])
def test_something_is_always_allowed(tolerance: float, unroll: int, batch: int, ratio: float) -> None:
    limiter = SamplesPerInsert(ratio, min_size=10, tolerance=tolerance)
    for prefer_insert in [True] * 300 + [False] * 300 + [True, False] * 300:
        insert, sample = limiter.can_insert(unroll), limiter.can_sample(batch)
        assert insert or sample
        if insert and (prefer_insert or not sample):
            limiter.did_insert(unroll)
        else:
            limiter.did_sample(batch)
        ahead = limiter.inserted - 10 - limiter.sampled / ratio
        assert ahead <= max(tolerance, unroll)
    assert limiter.sampled > 0


def run(ratio: float, min_size: int, inserted: int, batch: int = 32) -> SamplesPerInsert:
    limiter = SamplesPerInsert(ratio, min_size)
    alternate(limiter, unroll=1, batch=batch, unrolls=inserted)
    return limiter


@pytest.mark.parametrize("inserted", [0, 5, 10, 11, 37])
def test_resume_with_the_same_config_is_exact(inserted: int) -> None:
    straight, resumed = run(8.0, 10, inserted), SamplesPerInsert(8.0, 10)
    resumed.load_state_dict(straight.state_dict())
    assert alternate(resumed, 1, 32, 40) == alternate(straight, 1, 32, 40)
    assert resumed.state_dict() == straight.state_dict()


@pytest.mark.parametrize("ratio", [0.5, 64.0])
def test_resume_with_another_ratio_neither_floods_nor_blocks(ratio: float) -> None:
    old, new = run(8.0, 10, 1000), SamplesPerInsert(ratio, 10, tolerance=8)
    new.load_state_dict(old.state_dict())
    sampled = new.sampled
    assert sampled == old.sampled > 7000
    assert new.can_insert(8)
    batches = alternate(new, unroll=1, batch=32, unrolls=640)
    # ratio 64: 2 batches a step, and the first one at once; ratio 0.5: one in 64 steps.
    assert batches[:4] == ([3, 2, 2, 2] if ratio == 64.0 else [1, 0, 0, 0])
    assert ratio * 640 < new.sampled - sampled <= ratio * 640 + 32
    assert new.inserted == 1640


def test_resume_with_a_smaller_min_size_does_not_flood() -> None:
    new = SamplesPerInsert(8.0, 10)
    new.load_state_dict(run(8.0, 1000, 900).state_dict())  # saved while it was still filling
    assert alternate(new, unroll=1, batch=32, unrolls=5) == [1, 0, 0, 1, 0]  # from 900 on, at once: not 890 * 8 / 32


def test_resume_with_a_larger_min_size_waits_for_it_and_takes_inserts() -> None:
    new = SamplesPerInsert(8.0, 60, tolerance=0)
    new.load_state_dict(run(8.0, 10, 50).state_dict())
    assert not new.can_sample(32)
    assert new.can_insert(1)
    assert alternate(new, unroll=1, batch=32, unrolls=18) == [0] * 9 + [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_second_resume_after_a_change_is_exact() -> None:
    changed, resumed = SamplesPerInsert(4.0, 10), SamplesPerInsert(4.0, 10)
    changed.load_state_dict(run(8.0, 10, 100).state_dict())
    alternate(changed, 1, 32, 13)
    resumed.load_state_dict(changed.state_dict())
    assert alternate(resumed, 1, 32, 50) == alternate(changed, 1, 32, 50)


def test_a_smaller_tolerance_at_resume_holds_inserts_until_sampling_has_caught_up() -> None:
    old, new = SamplesPerInsert(1.0, 10, tolerance=100), SamplesPerInsert(1.0, 10, tolerance=5)
    old.did_insert(110)
    new.load_state_dict(old.state_dict())
    assert not new.can_insert(1)
    assert new.can_sample(32)
    new.did_sample(96)
    assert [new.can_insert(n) for n in (1, 2)] == [True, False]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_ratio(bad: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        SamplesPerInsert(bad, 1)


def test_other_bad_arguments() -> None:
    with pytest.raises(ValueError, match="min_size"):
        SamplesPerInsert(1.0, 0)
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            SamplesPerInsert(1.0, 1, tolerance)
    limiter = SamplesPerInsert(1.0, 1)
    for call, n in [
        (limiter.can_insert, 0),
        (limiter.can_sample, 0),
        (limiter.did_insert, -1),
        (limiter.did_sample, -1),
    ]:
        with pytest.raises(ValueError, match="at least"):
            call(n)


def test_broken_state_is_refused() -> None:
    state = SamplesPerInsert(1.0, 1).state_dict()
    for key in state:
        with pytest.raises(CheckpointError, match=key):
            SamplesPerInsert(1.0, 1).load_state_dict({k: v for k, v in state.items() if k != key})
    with pytest.raises(CheckpointError, match="negative"):
        SamplesPerInsert(1.0, 1).load_state_dict(state | {"sampled": -1})


def test_an_unlimited_store_gives_and_takes_whatever_is_asked_and_counts_nothing() -> None:
    limiter = Unlimited()
    assert limiter.can_sample(10**9)
    assert limiter.can_insert(10**9)
    limiter.did_sample(5)
    limiter.did_insert(5)
    assert (limiter.inserted, limiter.sampled, limiter.state_dict()) == (0, 0, {})
    limiter.load_state_dict(SamplesPerInsert(1.0, 1).state_dict())
    assert limiter.can_sample(10**9)
