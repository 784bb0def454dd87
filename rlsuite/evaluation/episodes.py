"""Whole episodes played with a given net: how agents are scored, both during and after training."""

from collections.abc import Callable
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.acting.collector import Collector, Episode
from rlsuite.config.schema import Config
from rlsuite.core.agent import Agent, Net
from rlsuite.evaluation.statistics import Summary, summarise
from rlsuite.factories import make_env

MAX_ENVS = 32


def play_episodes(
    config: Config,
    agent: Agent,
    net: Net,
    episodes: int,
    seed: int,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
) -> Summary | None:
    """A summary of `episodes` whole episodes without exploration; None if `stop` returned true before they were finished."""
    num_envs = min(episodes, MAX_ENVS)
    share = shares(episodes, num_envs)  # [L]
    env = make_env(config, num_envs)
    collector = Collector(env, agent, net, seed=seed, explore=False, device=device, bf16=config.learner.precision == "bf16")
    done: list[Episode] = []
    with closing(env):
        while share.any():
            if stop():
                return None
            _, ended = collector.tick(agent_steps=0)
            for episode in ended:
                if share[episode.env_index] > 0:
                    share[episode.env_index] -= 1
                    done.append(episode)
    return summarise([e.episodic_return for e in done], [e.length for e in done], config.env.id)


def shares(episodes: int, num_envs: int) -> NDArray[np.int64]:
    """How many episodes each of L environments plays [L]: fixed beforehand, so that short episodes are not favoured."""
    return episodes // num_envs + (np.arange(num_envs) < episodes % num_envs)
