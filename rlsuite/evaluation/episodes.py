"""Whole games of an agent, played with a given net: the one way that agents are scored, in training and after it."""

from collections.abc import Callable
from contextlib import closing

import numpy as np
import torch

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
    """`episodes` whole games; None if `stop` said so. Each environment plays a share fixed beforehand: short games are not favoured."""
    num_envs = min(episodes, MAX_ENVS)
    share = np.full(num_envs, episodes // num_envs)  # [L]
    share[: episodes % num_envs] += 1
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
