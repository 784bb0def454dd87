"""The scheduler's decisions, from counts alone: no Ray is started here."""

from typing import Any

import numpy as np
import pytest
from ray_envs import DQN, RAY, ROLLOUTS

from rlsuite.config.loader import resolve
from rlsuite.core.errors import RlsuiteError
from rlsuite.runtime.ray.scheduler import Draw, Scheduler, Snapshot
from rlsuite.runtime.ray.workers import Stored

UNROLL = 32  # agent steps: 8 environments, 4 steps each
BATCH = 16
CLOCK = [0.0]  # seconds


def scheduler(synchronous: bool = False, **settings: Any) -> Scheduler:
    """Of a DQN run: the first 128 steps are collected without learning, then 4 samples for each step."""
    CLOCK[0] = 0.0
    given = {**DQN, **RAY, **{f"runtime.{name}": value for name, value in settings.items()}}
    return Scheduler(resolve("classic/dqn", given), on_policy=False, synchronous=synchronous, clock=lambda: CLOCK[0])


def on_policy(synchronous: bool = False, **settings: Any) -> Scheduler:
    """Of an IMPALA run: four environments, two rollouts a batch."""
    given = {**ROLLOUTS, **RAY, "learner.batch_size": 8, **{f"runtime.{name}": value for name, value in settings.items()}}
    return Scheduler(resolve("classic/impala", given), on_policy=True, synchronous=synchronous, clock=lambda: CLOCK[0])


def snapshot(*in_flight: int | None, shards: int = 1, **others: Any) -> Snapshot:
    """Unrolls in flight to each collector, None to one that is lost; all shards and the learner are ready."""
    collectors = {index: count for index, count in enumerate(in_flight) if count is not None}
    return Snapshot(collectors, [True] * shards, learners=True)._replace(**others)


def store(found: Scheduler, shard: int, agent_steps: int, total_weight: float = 1.0) -> None:
    """A shard has stored some more."""
    found.limiter.did_insert(agent_steps)
    found.stored[shard] = Stored(found.stored[shard].stored + agent_steps, total_weight, 0)


# ------------------------------------------------------------------------------------------------------------- collectors


def test_collectors_are_asked_in_turn_and_the_least_busy_first() -> None:
    found = scheduler(collectors=3, insert_tolerance_agent_steps=5 * UNROLL)
    assert found.collectors_to_ask(snapshot(1, 0, 0)) == [1, 2, 0]
    # Room for one: all have had one by now, so the first in the row comes; then those that have had fewer.
    assert found.collectors_to_ask(snapshot(0, 0, 0, storing=4 * UNROLL)) == [0]
    assert found.collectors_to_ask(snapshot(0, 0, 0, storing=4 * UNROLL)) == [1]
    assert found.collectors_to_ask(snapshot(0, 0, 0, storing=4 * UNROLL)) == [2]
    assert found.collectors_to_ask(snapshot(0, 0, 0, storing=4 * UNROLL)) == [0]


def test_a_collector_has_so_many_calls_in_flight_and_one_that_is_lost_is_not_asked() -> None:
    found = scheduler(collectors=3, calls_in_flight=2)
    assert found.collectors_to_ask(snapshot(2, None, 1)) == [2]
    assert found.collectors_to_ask(snapshot(2, None, 2)) == []
    assert found.collectors_to_ask(snapshot(None, None, None)) == []


def test_back_pressure_counts_unrolls_in_flight_and_steps_on_their_way_to_shards() -> None:
    found = scheduler(collectors=2, insert_tolerance_agent_steps=4 * UNROLL, calls_in_flight=16)
    assert found.collectors_to_ask(snapshot(1, 1)) == [0, 1]
    assert found.collectors_to_ask(snapshot(1, 1, storing=UNROLL)) == [0]
    assert found.collectors_to_ask(snapshot(2, 2)) == []
    assert found.collectors_to_ask(snapshot(0, 0, storing=4 * UNROLL)) == []


def test_a_tolerance_below_an_unroll_still_lets_one_come() -> None:
    found = scheduler(insert_tolerance_agent_steps=1)
    assert found.collectors_to_ask(snapshot(0)) == [0]
    assert found.collectors_to_ask(snapshot(1)) == []


def test_collectors_wait_for_the_learner_but_only_once_there_is_something_to_learn_from() -> None:
    found = scheduler(insert_tolerance_agent_steps=2 * UNROLL)
    store(found, 0, 128 + 10 * UNROLL, total_weight=0.0)  # no sequence is whole
    assert found.collectors_to_ask(snapshot(0)) == [0]
    found.stored[0] = found.stored[0]._replace(total_weight=1.0)
    assert found.collectors_to_ask(snapshot(0)) == []
    found.limiter.did_sample(4 * 9 * UNROLL)  # one unroll ahead, and the tolerance is two
    assert found.collectors_to_ask(snapshot(0)) == [0]


def test_collectors_refill_a_shard_that_came_back_empty_and_wait_for_one_that_is_lost() -> None:
    found = scheduler(insert_tolerance_agent_steps=2 * UNROLL)
    store(found, 0, 128 + 10 * UNROLL)
    found.stored[0] = Stored(UNROLL, 1.0, 0)  # a sequence is whole again, but 128 steps must be there
    assert not found.may_learn(snapshot(0))
    assert found.collectors_to_ask(snapshot(0)) == [0]
    assert found.collectors_to_ask(snapshot(0)._replace(shards=[False])) == []


def test_synchronously_all_that_are_ready_collect() -> None:
    found = scheduler(synchronous=True, collectors=4)
    store(found, 0, 10_000)
    assert found.collectors_to_ask(snapshot(0, None, 0, 0)) == [0, 2, 3]


def test_rollouts_wait_for_the_learner_two_batches_and_one_for_each_collector() -> None:
    found = on_policy(collectors=3)
    assert found.rollouts_per_batch == 2
    assert found.collectors_to_ask(snapshot(0, 0, 0, rollouts=4)) == [0, 1, 2]
    assert found.collectors_to_ask(snapshot(1, 0, 0, rollouts=5)) == [1]
    assert found.collectors_to_ask(snapshot(0, 0, 0, rollouts=7)) == []


# ---------------------------------------------------------------------------------------------------------------- learner


def test_learning_begins_with_enough_steps_and_a_whole_sequence_and_keeps_the_ratio() -> None:
    found = scheduler()
    store(found, 0, 127)
    assert not found.may_learn(snapshot())
    store(found, 0, 1, total_weight=0.0)
    assert not found.may_learn(snapshot())
    store(found, 0, 0)
    assert found.may_learn(snapshot())
    assert found.next_draw(snapshot()).batches == 1  # then the limiter is one batch ahead
    assert not found.may_learn(snapshot())
    store(found, 0, UNROLL)  # 4 * 32 samples are due: 8 batches, of which one was ahead, and one is ahead again
    drawn = 0
    while found.may_learn(snapshot()):
        drawn += found.next_draw(snapshot()).batches
    assert drawn == 8


def test_the_learner_is_not_called_while_one_is_lost_or_enough_is_in_flight() -> None:
    found = scheduler(batch_calls_in_flight=3)
    store(found, 0, 1_000)
    assert found.may_learn(snapshot(learner_calls=2))
    assert not found.may_learn(snapshot(learner_calls=3))
    assert not found.may_learn(snapshot(learners=False))


def test_a_lost_shard_is_not_learned_from_and_what_is_left_must_suffice() -> None:
    found = scheduler(collectors=2, shards=2)
    store(found, 0, 1_000)
    store(found, 1, 100)
    alone = snapshot()._replace(shards=[False, True])
    assert found.may_learn(snapshot(shards=2))
    assert not found.may_learn(alone)  # 100 steps are left, 128 are asked for
    store(found, 1, 28)
    assert found.may_learn(alone)
    assert {found.next_draw(alone).shard for _ in range(50)} == {1}


def test_shards_are_drawn_from_in_proportion_to_their_weight() -> None:
    found = scheduler(collectors=3, shards=3)
    for shard, weight in enumerate([1.0, 3.0, 0.0]):
        store(found, shard, 1_000, weight)
    drawn = np.bincount([found.next_draw(snapshot(shards=3)).shard for _ in range(4_000)], minlength=3)
    assert drawn[2] == 0
    assert abs(drawn[1] / 4_000 - 0.75) < 0.03  # four standard deviations


def test_a_call_has_the_batches_that_are_due_and_at_most_so_many() -> None:
    found = scheduler(batches_per_call=4)
    store(found, 0, 128 + UNROLL)  # 8 batches, and one ahead
    assert [found.next_draw(snapshot()).batches for _ in range(3)] == [4, 4, 1]
    assert found.limiter.sampled == 9 * BATCH
    assert not found.may_learn(snapshot())


def test_weights_are_published_after_so_many_updates() -> None:
    found = scheduler(batches_per_call=4, publish_learner_steps=6)
    store(found, 0, 10_000)
    assert [found.next_draw(snapshot()).publish for _ in range(6)] == [False, True, True, False, True, True]  # 4 8 12 16 20 24


def test_synchronously_a_call_is_one_update_and_publishes() -> None:
    found = scheduler(synchronous=True)
    store(found, 0, 10_000)
    assert [found.next_draw(snapshot()) for _ in range(3)] == [Draw(shard=0, batches=1, publish=True)] * 3


def test_on_policy_learning_takes_a_batch_of_rollouts() -> None:
    found = on_policy()
    assert not found.may_learn(snapshot(rollouts=1))
    assert found.may_learn(snapshot(rollouts=2))


# ---------------------------------------------------------------------------------------------------------------- together


@pytest.mark.parametrize("deaths", [0.0, 0.01], ids=["whole", "dying"])
@pytest.mark.parametrize("seed", range(3))
def test_a_flow_of_any_order_keeps_the_ratio_within_its_bounds_and_never_stops(seed: int, deaths: float) -> None:
    """Calls end in random order, and sometimes a shard is lost with what was on its way to it, and comes back empty."""
    rng = np.random.default_rng(seed)
    found = scheduler(collectors=3, shards=2, insert_tolerance_agent_steps=6 * UNROLL, batches_per_call=3)
    limiter = found.limiter
    collecting, storing, learning, ready = [0] * 3, [0, 0], 0, [True, True]  # calls in flight; shards that are there
    for _ in range(3_000):
        now = Snapshot(dict(enumerate(collecting)), ready, True, learning, UNROLL * sum(storing))
        for index in found.collectors_to_ask(now):
            collecting[index] += 1
        while found.may_learn(now._replace(learner_calls=learning)):
            found.next_draw(now)
            learning += 1
        assert learning <= 3
        assert max(collecting) <= 2
        ends = [("collect", index) for index in range(3) if collecting[index]]
        ends += [("store", index) for index in range(2) if storing[index]]
        ends += [("start", index) for index in range(2) if not ready[index]]
        ends += [("learn", 0)] * bool(learning)
        assert ends, "nothing is in flight, and nothing may begin"
        what, index = ends[rng.integers(len(ends))]
        if what == "learn":
            learning -= 1
        elif what == "start":
            ready[index], found.stored[index] = True, Stored(0, 0.0, 0)
        elif what == "store":
            storing[index] -= 1
            store(found, index, UNROLL, total_weight=float(rng.random()))
        else:
            collecting[index] -= 1
            if ready[index % 2]:
                storing[index % 2] += 1
            else:
                limiter.did_insert(UNROLL)
        if rng.random() < deaths:
            shard = int(rng.integers(2))
            ready[shard], storing[shard] = False, 0
        ahead = limiter.inserted - 128 - limiter.sampled / 4  # agent steps
        assert ahead >= -BATCH / 4 or limiter.sampled == 0
        assert ahead <= 6 * UNROLL or deaths
    assert limiter.inserted > 5_000
    assert limiter.sampled > 2 * limiter.inserted


def test_decisions_continue_after_a_checkpoint() -> None:
    def drawn(found: Scheduler) -> list[tuple[int, int]]:
        return [found.next_draw(snapshot(shards=2))[:2] for _ in range(20)]

    first, second = scheduler(collectors=2, shards=2), scheduler(collectors=2, shards=2)
    store(first, 0, 1_000, 2.0)
    store(first, 1, 1_000, 3.0)
    drawn(first)
    second.load_state_dict(first.state_dict())
    second.stored = first.stored  # shards report again as they are loaded
    assert drawn(second) == drawn(first)
    assert second.state_dict() == first.state_dict()


# ---------------------------------------------------------------------------------------------------- evaluations, stalls


def test_an_evaluation_is_due_when_a_multiple_is_passed() -> None:
    given = {**DQN, **RAY, "eval.every_agent_steps": 100}
    found = Scheduler(resolve("classic/dqn", given), on_policy=False, synchronous=False)
    assert [found.evaluation_due(*span) for span in ((0, 99), (99, 100), (100, 100), (101, 350), (350, 399))] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert not scheduler().evaluation_due(0, 10**9)


def test_a_run_that_learns_nothing_for_too_long_ends_with_the_first_error() -> None:
    found = scheduler(stall_minutes=10.0)
    CLOCK[0] = 600.0
    found.refuse_to_stall(None)
    CLOCK[0] = 660.5
    with pytest.raises(RlsuiteError, match=r"nothing was learned for 11 minutes .*; the first error: collector 3: on fire"):
        found.refuse_to_stall("collector 3: on fire")
    with pytest.raises(RlsuiteError, match="the first error: none was reported"):
        found.refuse_to_stall(None)
    found.did_progress()
    found.refuse_to_stall(None)


def test_an_unroll_is_progress_only_while_the_learner_waits_for_unrolls() -> None:
    found = scheduler()
    CLOCK[0] = 5.0
    found.did_collect()
    assert found.progressed_at == 5.0
    store(found, 0, 129)
    CLOCK[0] = 9.0
    found.did_collect()
    assert found.progressed_at == 5.0
    found = on_policy()
    CLOCK[0] = 12.0
    found.did_collect()
    assert found.progressed_at == 12.0
