"""Evaluation: whole games, raw scores, the same `act` as in training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite import checkpoint, cpu
from rlsuite.agent import Agent, Net
from rlsuite.build import evaluation_seed, make_agent, make_env, threads_of
from rlsuite.collect import Collector, Episode
from rlsuite.config import Config
from rlsuite.errors import RlsuiteError
from rlsuite.nets.precision import Precision
from rlsuite.resolve import check
from rlsuite.scores import Summary, summarise
from rlsuite.step import EnvSpec

MOST_LANES = 32


def play(
    config: Config,
    agent: Agent,
    net: Net,
    episodes: int,
    seed: int,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
) -> Summary | None:
    """`episodes` whole games; None if `stop` said so. Each lane plays a share fixed beforehand: short games are not favoured."""
    lanes = min(episodes, MOST_LANES)
    share = np.full(lanes, episodes // lanes)  # [L]
    share[: episodes % lanes] += 1
    env = make_env(config, lanes)
    collector = Collector(env, agent, net, seed=seed, explore=False, device=device, bf16=config.learner.precision == "bf16")
    done: list[Episode] = []
    while share.any():
        if stop():
            return None
        _, ended = collector.tick(agent_steps=0)
        for episode in ended:
            if share[episode.lane] > 0:
                share[episode.lane] -= 1
                done.append(episode)
    env.close()
    return summarise([e.episodic_return for e in done], [e.length for e in done], config.env.id)


class Saved:
    """An agent as a checkpoint holds it."""

    def __init__(self, path: Path, device: str = "cpu"):
        """`path`: a run or a checkpoint folder. UsageError or CheckpointError if it is none, is damaged or of another net."""
        self.path = checkpoint.find(path.resolve())
        saved = checkpoint.load(self.path, weights_only=True)
        self.agent_steps = saved.agent_steps
        data: Any = saved.metadata
        self.config: Config = check(data["config"])
        spec = data["spec"]
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}
        self.spec = EnvSpec(**fields)
        self.agent = make_agent(self.config, self.spec)
        if device == "auto":  # where it was trained does not matter
            device = "cuda" if torch.cuda.is_available() and self.config.run.device != "cpu" else "cpu"
        self.device = torch.device(device)
        net = self.agent.make_net().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        checkpoint.load_weights_into(net, saved.weights, str(self.path))
        self.net = Precision(net.requires_grad_(False), bf16=self.config.learner.precision == "bf16").net


def evaluate(path: Path, episodes: int | None, seed: int | None, video: Path | None) -> tuple[Summary, list[Path]]:
    """Scores a saved agent, writes `evaluation.json` beside the checkpoint, and videos into `video` if given."""
    saved = Saved(path, device="auto")
    cpu.set_up(threads_of(saved.config))
    seed = evaluation_seed(saved.config.seed) if seed is None else seed
    count = episodes or saved.config.eval.episodes
    summary = play(saved.config, saved.agent, saved.net, count, seed, saved.device)
    assert summary is not None  # nothing asked it to stop
    write_summary(saved.path, summary, seed)
    videos = []
    if video is not None:
        from rlsuite.video import record

        videos = [record(saved, video, seed)]
    return summary, videos


def write_summary(folder: Path, summary: Summary, seed: int) -> None:
    """`<checkpoint>.evaluation.json` beside the checkpoint folder, which itself never changes."""
    target = folder.with_name(folder.name.lstrip(".") + ".evaluation.json")
    try:
        target.write_text(json.dumps({"seed": seed, **summary.as_dict()}, indent=1) + "\n")
    except OSError as error:
        raise RlsuiteError(f"could not write {target}: {error.strerror}") from error


class Player:
    """A saved agent for anyone's own loop, on NumPy arrays."""

    def __init__(self, saved: Saved, seed: int = 0):
        from rlsuite.agent import Mode

        self.saved = saved
        self._mode = Mode(explore=False, agent_steps=0, rng=torch.Generator(saved.device).manual_seed(seed))

    def initial_state(self, batch: int) -> Any:
        """The state to pass to the first `act`; () for a feed-forward net."""
        return self.saved.agent.initial_state(batch)

    def act(
        self, observation: NDArray[Any], state: Any = (), first: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], Any]:
        """observation [B,*shape] as the environment gives it; `first` [B] marks new episodes -> actions [B] i64, new state."""
        from rlsuite.step import Step, to_tensors

        shape = self.saved.spec.observation_shape
        if observation.shape[1:] != shape:
            raise ValueError(f"observations must be [B, {', '.join(map(str, shape))}], got {list(observation.shape)}")
        batch = observation.shape[0]
        no = np.zeros((1, batch), bool)
        step = Step(
            observation=np.asarray(observation)[None],
            reward=np.zeros((1, batch), np.float32),
            first=no if first is None else first[None],
            last=no,
            terminal=no,
            action=np.zeros((1, batch), np.int64),
            extras={},
        )
        bf16 = self.saved.config.learner.precision == "bf16"
        with torch.no_grad(), torch.autocast(self.saved.device.type, torch.bfloat16, enabled=bf16):
            action, state, _ = self.saved.agent.act(self.saved.net, to_tensors(step, self.saved.device), state, self._mode)
        return action.cpu().numpy(), state
