"""A training run of an agent, on any runtime.

    with signals() as stopped, closing(build(config)) as parts:
        result = run(config, run_dir, resume, parts, partial(train_loop, parts), stopped)

`Loop` is the session of the run; `run` takes it from the first step to the final evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import torch

from rlsuite.acting.collector import Episode
from rlsuite.config.schema import Config, TrainingConfig
from rlsuite.core import registry
from rlsuite.core.agent import Agent
from rlsuite.core.console import say
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, other_spaces
from rlsuite.envs import classic
from rlsuite.evaluation.episodes import play_episodes
from rlsuite.evaluation.label import rate_episodes
from rlsuite.evaluation.statistics import Summary, summary_document
from rlsuite.factories import evaluation_seed, restart_seed
from rlsuite.replay.replay import predicted_bytes
from rlsuite.runs import checkpoint, run_folder
from rlsuite.runs.callbacks import Callbacks
from rlsuite.runs.metrics import MetricLog, RollingMean
from rlsuite.runs.progress import Progress, Status, how_far
from rlsuite.runs.run_folder import spec_in
from rlsuite.runtime import session
from rlsuite.runtime.session import LearnerRole, Report
from rlsuite.runtime.signals import Stop


class CollectorRole(Protocol):
    """The interface that a run needs from its collectors, in whatever process they are."""

    def diagnostics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], reseed: int) -> bool: ...

    def ready(self, steps: int) -> bool: ...


class ReplayRole(Protocol):
    """The interface that a run needs from its replay, in whatever process it is."""

    @property
    def dropped_updates(self) -> int: ...

    @property
    def capacity_steps(self) -> int: ...

    def __len__(self) -> int: ...

    def end_streams(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> str | None: ...


class LagRole(Protocol):
    """The interface that a run needs from the object that decides which weights act."""

    def diagnostics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Roles(Protocol):
    """The parts of a run: `factories.Parts`, or stand-ins for parts in other processes."""

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def agent(self) -> Agent: ...

    @property
    def learner(self) -> LearnerRole: ...

    @property
    def lag(self) -> LagRole: ...

    @property
    def collector(self) -> CollectorRole: ...

    @property
    def replay(self) -> ReplayRole: ...


@dataclass
class Result:
    """The result of a training run, as `rlsuite.train` returns it."""

    run: Path
    agent_steps: int
    learner_steps: int
    wall_seconds: float
    evaluation: Summary | None  # None if the run was interrupted
    interrupted: bool = False
    board_game: bool = False
    pictures: bool = False  # whether its games can be recorded as videos
    plays: bool = True  # whether its agent acts in an environment at all

    def as_dict(self) -> dict[str, Any]:
        """The result as a dict that can be written as JSON, as `rlsuite train --json` prints it."""
        facts: dict[str, Any] = {
            "run": str(self.run),
            "agent_steps": self.agent_steps,
            "learner_steps": self.learner_steps,
            "wall_seconds": round(self.wall_seconds, 2),
            "eval": None if self.evaluation is None else self.evaluation.as_dict(),
        }
        return {**facts, "interrupted": True} if self.interrupted else facts


class Loop(session.Session[Summary]):
    """The session of an agent's run."""

    steps_key = "run.agent_steps"
    command = ("rlsuite",)
    config: Config

    def __init__(
        self, config: Config, run_dir: Path, parts: Roles, log: MetricLog | None = None, callbacks: Callbacks | None = None
    ):
        """`log`: None where `session.run` opens it."""
        super().__init__(run_dir, parts.learner, parts.spec.frames_per_step, callbacks)
        self.config, self.parts = config, parts
        self.returns = RollingMean()  # of the last 100 episodes
        if log is not None:
            self.log = log

    @property
    def settings(self) -> TrainingConfig:
        return self.config.run

    @property
    def total_agent_steps(self) -> int:
        return self.config.run.agent_steps

    @property
    def evaluate_every(self) -> int | None:
        return self.config.eval.every_agent_steps

    def metadata(self) -> dict[str, Any]:
        return run_folder.metadata(self.config, self.parts.spec)

    def measure(self, final: bool, stopped: Stop) -> Summary | None:
        """Evaluates the current weights by playing whole episodes or, if the agent does not play, on recorded ones."""
        config, learner = self.config, self.learner
        episodes = config.eval.episodes if final else config.eval.every_episodes
        seed = evaluation_seed(config.seed, final)

        def show(done: int, of: int, steps: int) -> None:
            self.show_evaluation(how_far(done, of, "games", steps))

        agent, net, device = self.parts.agent, learner.net, learner.device
        if not agent.plays:
            return rate_episodes(config, agent, net, episodes, device, stop=lambda: bool(stopped), show=show)
        return play_episodes(config, agent, net, episodes, seed, device, stop=lambda: bool(stopped), show=show)

    def report(self, result: Summary, final: bool) -> Report:
        return Report(
            result.mean, result.scalars(), summary_document(result, evaluation_seed(self.config.seed, final)), result.warning
        )

    def good_enough(self, result: Summary) -> bool:
        goal = self.config.eval.stop_at_return
        return goal is not None and result.mean >= goal

    def count(self, steps: int, episodes: list[Episode]) -> None:
        """Advances the clock by `steps`, the sum over all environments, and logs the episodes that ended."""
        self.moved = steps
        self.collected += steps
        for episode in episodes:
            self.returns.add(episode.episodic_return)
            values = {"charts/episodic_return": episode.episodic_return, "charts/episodic_length": float(episode.length)}
            self.log.scalars(self.clock(), values)
            self.callbacks.episode(self, episode.episodic_return, episode.length)

    def log_losses(self, metrics: dict[str, torch.Tensor], more: dict[str, float] | None = None) -> None:
        values: dict[str, float] = {}
        if not self.parts.agent.on_policy:
            values["charts/replay_steps"] = float(len(self.parts.replay))
            values["charts/dropped_updates"] = float(self.parts.replay.dropped_updates)
        values |= self.parts.collector.diagnostics() | self.parts.lag.diagnostics() | (more or {})
        if len(self.returns):
            values["charts/mean_return_100"] = self.returns.mean
        super().log_losses(metrics, values)

    def status(self, more: dict[str, str] | None = None) -> Status:
        replay = self.parts.replay
        return (
            super()
            .status(more)
            ._replace(
                env_frames=self.clock().env_frames,
                replay_fill=None if self.parts.agent.on_policy else len(replay) / replay.capacity_steps,
                mean_return=self.returns.mean,
            )
        )

    def describe(self) -> str:
        config, parts = self.config, self.parts
        steps = parts.replay.capacity_steps
        store = f"rollouts of {config.run.collect_agent_steps} steps"
        if parts.agent.offline:
            store = f"{steps:,} recorded steps"
        elif not parts.agent.on_policy:
            size = predicted_bytes(self.parts.spec, config.replay, parts.agent.sequence) / 1e9
            place = "" if config.replay.window is None else f", in files of {config.replay.window}"
            store = f"replay {steps:,} steps = {size:.2f} GB when full{place}"
        parameters = sum(p.numel() for p in self.learner.net.parameters())
        first = (
            f"{config.name}: {config.agent.name} on {config.env.id}, seed {config.seed}, "
            f"{'' if parts.agent.offline else f'{config.env.num_envs} environments, '}"
            f"{self.learner.device.type}, {torch.get_num_threads()} threads, {parameters:,} parameters, {store}"
        )
        lines = [first]
        if config.replay.demonstrations is not None:
            ratio = "" if config.replay.demonstration_ratio is None else f", ratio {config.replay.demonstration_ratio}"
            lines.append(f"demonstrations {config.replay.demonstrations}{ratio}")
        if not _has_time_limit(config):
            lines.append(f"{config.env.id} has no time limit: episodes end after {classic.LONGEST:,} steps (env.max_episode_steps)")
        return "\n".join(lines)

    def check_resume(self, saved: checkpoint.Checkpoint) -> None:
        """UsageError if the checkpoint is of another board game, or if its environment had other spaces than now."""
        spec, now = spec_in(saved), self.parts.spec.game
        if spec.game != now:
            raise UsageError(f"{self.run_dir} is a run of {spec.game or 'no board game'}, not of {now or self.config.env.id}")
        if set(spec.more_games) != set(self.parts.spec.more_games):
            games = [", ".join(names) or "no others" for names in (spec.more_games, self.parts.spec.more_games)]
            raise UsageError(f"{self.run_dir} also played {games[0]}, not {games[1]} (env.sizes)")
        if (difference := other_spaces(self.parts.spec, spec)) is not None:
            raise UsageError(f"{self.run_dir} was trained with {difference} as {self.config.env.id} has now")
        if spec.info_keys != self.parts.spec.info_keys:
            had, has = (", ".join(keys) or "nothing" for keys in (spec.info_keys, self.parts.spec.info_keys))
            raise UsageError(
                f"{self.run_dir} was trained where {self.config.env.id} reports {had} in info, not {has} (env.action_masks)"
            )

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["loop"] |= {"lag": self.parts.lag.state_dict(), "returns": self.returns.state_dict()}
        collector = {} if self.collecting else self.parts.collector.state_dict()  # within a step, it has no consistent state
        return state | {"collector": collector, "replay": self.parts.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        parts = self.parts
        lost = parts.replay.load_state_dict(state["replay"])
        parts.lag.load_state_dict(state["loop"]["lag"] or {"version": self.learner.steps})
        self.returns.load_state_dict(state["loop"]["returns"])
        continues = False
        if state["collector"]:
            reseed = restart_seed(self.config.seed, self.collected)
            continues = parts.collector.load_state_dict(state["collector"], reseed=reseed)
        if not continues and not parts.collector.ready(1):
            parts.replay.end_streams()  # new episodes begin, and the newest steps are already in the store
        episodes = "the running episodes" + ("" if self.config.net.memory == "none" else ", with their recurrent states")
        notes = ([] if continues else [episodes]) + ([lost] if lost else [])
        if notes:
            say(f"not kept as it was: {'; '.join(notes)}")


def _has_time_limit(config: Config) -> bool:
    """Whether the environment or the config limits the length of an episode; if neither does, `envs.classic` sets a limit."""
    if not isinstance(config.env, classic.Config) or config.env.max_episode_steps or "max_episode_steps" in config.env.kwargs:
        return True
    module = registry.envs.get(config.env.id)
    if module is classic:
        return gymnasium.spec(config.env.id.rpartition(":")[2]).max_episode_steps is not None
    return not isinstance(module, classic.FromClass)  # environments of other modules are left to set their own limits


Train = Callable[[Loop, Progress, Stop], bool]  # trains to the end; True if a signal came first


def run(
    config: Config,
    run_dir: Path | None,
    resume: bool,
    parts: Roles,
    train: Train,
    stopped: Stop,
    callbacks: Callbacks | None = None,
) -> Result:
    """Creates or restores a run of an agent, trains it and evaluates it. `stopped` fills when a signal arrives (see `signals`).

    `run_dir`: None creates a folder under runs/; with `resume`, the folder of the run to continue.
    """
    assert run_dir is not None or not resume
    loop = Loop(config, run_dir or run_folder.new_path(config), parts, callbacks=callbacks)

    def trained(progress: Progress, stopped: Stop) -> bool:
        return train(loop, progress, stopped)

    summary = session.run(loop, trained, resume, stopped)
    return Result(
        run=loop.run_dir,
        agent_steps=loop.agent_steps,
        learner_steps=loop.learner.steps,
        wall_seconds=loop.seconds,
        evaluation=summary,
        interrupted=summary is None,
        board_game=parts.spec.game is not None,
        pictures=parts.spec.has_pictures,
        plays=parts.agent.plays,
    )
