"""Applies agents that do not play to recordings: rates them on recorded episodes, and labels recordings with their actions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from rlsuite.agents.inverse_dynamics import InverseDynamics
from rlsuite.config.schema import Config
from rlsuite.core import cpu
from rlsuite.core.agent import Agent, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.types import Step, to_tensors
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.evaluation.statistics import Summary, summarise
from rlsuite.factories import load_rated
from rlsuite.nets.precision import in_bf16, inference
from rlsuite.replay import demonstrations
from rlsuite.replay.demonstrations import Demonstrations
from rlsuite.runs.progress import Counter


def rate_episodes(
    config: Config,
    agent: Agent,
    net: Net,
    episodes: int,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
    show: Callable[[int, int, int], None] = lambda done, of, steps: None,
) -> Summary | None:
    """Rates an agent on the first `episodes` recorded episodes, and summarises its scores; None if `stop` returned true meanwhile.

    `show`: see `play_episodes`.
    """
    recorded = list(load_rated(config, agent.spec).episodes())[:episodes]
    scores: list[float] = []
    for episode in recorded:
        if stop():
            return None
        show(len(scores), len(recorded), sum(len(one.reward) for one in recorded[: len(scores)]))
        with inference(device, in_bf16(config.learner.precision, device)):
            scores.append(agent.rate(net, _seen(episode, agent.spec.stack, device)))
    return summarise(scores, [len(episode.reward) - 1 for episode in recorded], env_id="")


def _seen(episode: Step, stack: int, device: torch.device) -> Step:
    """A recorded episode as the agent sees it, leaves [n+1,...]."""
    whole = episode._replace(observation=demonstrations.stacks(episode.observation, stack))
    seen: Step = to_tensors(whole, device)
    return seen


class Labelled(NamedTuple):
    """A recording with the actions that an agent has inferred."""

    demonstrations: Demonstrations
    scores: list[float] | None  # the agent's score on each episode; None if no actions were recorded


def label(path: Path, run: Path) -> Labelled:
    """Labels the recording at `path` with actions inferred by the agent of `run`; its own actions, if any, are replaced.

    UsageError for an agent that infers no actions, and for a recording of another environment.
    """
    saved = Saved(run, device="auto")
    cpu.set_up(saved.config.run.threads)
    agent = saved.agent
    if not isinstance(agent, InverseDynamics):
        raise UsageError(
            f"{run} is of agent.name={saved.config.agent.name}, which names no actions: train agent.name=inverse_dynamics"
        )
    given = demonstrations.load(path, saved.spec, saved.config.env.id, actions=False)
    actions: list[Any] = []
    scores: list[float] | None = [] if demonstrations.has_actions(path) else None
    with Counter("episodes") as show, inference(saved.device, saved.bf16):
        episodes = list(given.episodes())
        for index, episode in enumerate(episodes):
            show(index, len(episodes))
            seen = _seen(episode, saved.spec.stack, saved.device)
            named = agent.actions(saved.net, seen)  # [n,...]
            if scores is not None:
                scores.append(agent.score(named, seen.action[:-1]))
            array = named.cpu().numpy().astype(given.steps.action.dtype)
            actions += [array, np.zeros_like(array[:1])]  # no environment sees the last action
    return Labelled(given._replace(steps=given.steps._replace(action=np.concatenate(actions))), scores)
