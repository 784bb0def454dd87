"""Scores agents by whole episodes, both during and after training."""

import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.collector import Collector, Episode
from rlsuite.config.schema import Config
from rlsuite.core import cpu
from rlsuite.core.agent import Agent, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, describe, other_spaces
from rlsuite.evaluation.statistics import TRACE_BYTES, Summary, summarise
from rlsuite.factories import make_env
from rlsuite.nets.precision import in_bf16

MAX_ENVS = 32


def play_episodes(
    config: Config,
    agent: Agent,
    net: Net,
    episodes: int,
    seed: int,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
    show: Callable[[int, int, int], None] = lambda done, of, steps: None,
) -> Summary | None:
    """Plays `episodes` whole episodes without exploration, and summarises them; None if `stop` returned true before the end.

    `show` is called often, with the number of finished games, their total, and the agent steps so far.
    """
    num_envs = min(episodes, MAX_ENVS)
    share = shares(episodes, num_envs)  # [L]
    env = make_env(config, num_envs)
    if (difference := other_spaces(describe(env), agent.spec)) is not None:
        env.close()
        raise UsageError(f"the agent was trained with {difference} as {config.env.id} has now")
    cpu.steady()
    bf16 = in_bf16(config.learner.precision, device)
    collector = Collector(env, agent, net, seed=seed, explore=False, device=device, bf16=bf16)
    done: list[Episode] = []
    traces: list[bytes] = []  # of the episodes in `done`
    running, steps = Traces(num_envs), 0
    with closing(env):
        while share.any():
            if stop():
                return None
            show(len(done), episodes, steps)
            step, ended = collector.tick(agent_steps=0)
            running.add(collector.compact(step))
            steps += num_envs
            for episode in ended:
                trace = running.take(episode.env_index)
                if share[episode.env_index] > 0:
                    share[episode.env_index] -= 1
                    done.append(episode)
                    traces.append(trace)
    summary = summarise([e.episodic_return for e in done], [e.length for e in done], config.env.id, traces)
    if len(games := env.metadata.get("games", ())) < 2:
        return summary
    by_game = {game: [e.episodic_return for e in done if e.env_index % len(games) == g] for g, game in enumerate(games)}
    return replace(summary, by_game={game: sum(returns) / len(returns) for game, returns in by_game.items()})


class Traces:
    """Records a trace of each of L running episodes, for `statistics.count_different`."""

    def __init__(self, num_envs: int):
        self.running = [bytearray() for _ in range(num_envs)]

    def add(self, step: Step) -> None:
        """Adds a step, with leaves [L,...]. The action of a last step is left out, because no environment sees it."""
        for env_index, trace in enumerate(self.running):
            value = 0
            for leaf in (step.observation, step.reward, *(() if step.last[env_index] else (step.action,))):
                value = zlib.crc32(np.ascontiguousarray(leaf[env_index]).data, value)
            trace += value.to_bytes(TRACE_BYTES, "little")

    def take(self, env_index: int) -> bytes:
        """Returns the trace of an episode that has ended, and begins the next one."""
        trace, self.running[env_index] = bytes(self.running[env_index]), bytearray()
        return trace


def shares(episodes: int, num_envs: int) -> NDArray[np.int64]:
    """The number of episodes [L] that each environment plays, fixed in advance so that short episodes are not favoured."""
    return episodes // num_envs + (np.arange(num_envs) < episodes % num_envs)
