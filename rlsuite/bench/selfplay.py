"""selfplay: moves per second, against the same search and net with no Python between their calls."""

import threading
import time
from collections.abc import Callable
from typing import Any

from rlsuite.acting.selfplay import SelfPlay
from rlsuite.bench.measure import BenchSettings, Row, Target, Work, alternate
from rlsuite.config.loader import resolve
from rlsuite.factories import build


def bench_selfplay(settings: BenchSettings) -> list[Row]:
    """Moves per second in self-play of the shipped Connect Four config, against its compiled code and its net alone."""
    collector = self_player(settings)
    spent = watch(collector)
    rate = alternate("selfplay", {"ours": moves(collector)}, settings)["ours"]
    bound = rate * spent["all"] / (spent["search"] + spent["net"])
    what = (
        "self-play in Connect Four as shipped, untrained net, no learning; against the moves per second if nothing but the calls of"
        " the compiled search and of the net took time"
    )
    return [Row("selfplay", what, "moves/s", rate, bound, Target("ratio", ">=", 0.9))]


def self_player(settings: BenchSettings, overrides: dict[str, Any] | None = None) -> SelfPlay:
    """The collector of the shipped Connect Four config."""
    small: dict[str, Any] = {"env.num_envs": 8, "agent.simulations": 4} if settings.quick else {}
    config = resolve("boards/connect_four", {"run.threads": settings.threads, **small, **(overrides or {})})
    collector = build(config).collector
    assert isinstance(collector, SelfPlay)
    return collector


def moves(collector: SelfPlay) -> Work:
    """Work that counts moves."""

    def work(rounds: int) -> int:
        moved = sum(collector.advance(0)[0] for _ in range(rounds))
        collector.take()
        return max(moved, 1)

    return work


def watch(collector: SelfPlay) -> dict[str, float]:
    """Starts to count the seconds of all threads that share the slots: in the compiled search, in the net, and in total."""
    spent, lock = {"search": 0.0, "net": 0.0, "all": 0.0}, threading.Lock()

    def timed(name: str, function: Callable[..., Any], threads: int = 1) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            start = time.perf_counter()
            result = function(*args)
            with lock:
                spent[name] += threads * (time.perf_counter() - start)
            return result

        return wrapped

    collector.run = collector.run._replace(play=timed("search", collector.run.play))
    collector.agent.evaluate = timed("net", collector.agent.evaluate)  # type: ignore[method-assign]
    collector.advance = timed("all", collector.advance, collector.parts)  # type: ignore[method-assign]
    return spent
