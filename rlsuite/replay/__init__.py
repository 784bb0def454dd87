"""Replay stores. A `Replay` combines storage (a ring), a selector and a limiter."""

from rlsuite.replay.replay import Replay, Sample, build_replay

__all__ = ["Replay", "Sample", "build_replay"]
