"""Replay: storage x selector x limiter, composed by `Replay`."""

from rlsuite.replay.replay import Replay, Sample, build_replay

__all__ = ["Replay", "Sample", "build_replay"]
