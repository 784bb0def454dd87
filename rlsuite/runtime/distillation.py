"""Distillation: a student learns to act like trained agents (Hinton et al. 2015; Rusu et al. 2016, "Policy Distillation").

    p_T = mean over teachers of softmax(z_T(s) / τ)        z: a teacher's action values, or the logits of its policy
    L   = KL(p_T || softmax(z_S(s)))

The student is any agent with a different loss: its net, its acting, its replay or rollouts, and the rest of the run are unchanged.
In the collector, teachers see the student's observations, and their policy is stored with each step. In a share of the environments
they also choose the actions. A student that plays board games learns from games that its teachers' searches play: its target is the
search's policy anyway, so the teachers' nets replace its own in self-play, and nothing else changes.

Unlike in Rusu et al., where a teacher plays alone, the student plays too, so that it learns in the states that it gets into.

Shapes: T time, B batch, A actions, N positions.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlsuite.acting.board_agent import GameCollector
from rlsuite.acting.selfplay import SelfPlayAgent
from rlsuite.agents.net_agent import NetAgent
from rlsuite.agents.policy_gradient import columns, mean
from rlsuite.agents.value_based import ValueAgent
from rlsuite.config.schema import Config, DistillConfig
from rlsuite.core import masks
from rlsuite.core.agent import Agent, Extra, Loss, Mode, Net, Rollouts, Sequences, SequenceSpec, Transitions
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step, Trajectory, other_spaces, part_of
from rlsuite.envs import atari_mixture
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import make_agent
from rlsuite.nets.board_net import Evaluation
from rlsuite.nets.heads import clear_noise

KEY = "teacher"  # key of p_T in `Step.extras`, [B,A] f32
OF_VALUES, OF_LOGITS = 0.01, 1.0  # the default τ; values of good and bad actions lie close (Rusu et al. 2016, section 4)


def make_trained_agent(config: Config, spec: EnvSpec) -> Agent:
    """The agent that a run trains: the one of its config or, with `distill.teachers`, a student version of it.

    UsageError if it cannot learn from one of the teachers.
    """
    agent = make_agent(config, spec)
    if not config.distill.teachers:
        return agent
    if config.runtime.inference == "server":
        raise UsageError("distill.teachers act in the collectors: use runtime.inference=collector")
    if type(agent).needs_recordings():
        raise UsageError(f"distill.teachers: agent.name = {config.agent.name} learns from recordings, not from teachers")
    if config.replay.demonstrations is not None:
        raise UsageError("distill.teachers: recordings hold nothing of what teachers say; leave replay.demonstrations out")
    if config.agent.novelty != "none":
        raise UsageError("distill.teachers: a student learns from no rewards, so no bonus has an effect; use agent.novelty=none")
    if isinstance(agent, SelfPlayAgent) and (config.distill.temperature is not None or config.distill.teacher_share != 0.5):
        raise UsageError("distill.temperature and distill.teacher_share have no effect at the board, where teachers play all games")
    teachers = []
    for path in config.distill.teachers:
        teacher = Saved(Path(path), changes={"learner": {"precision": config.learner.precision}})
        if problem := _problem(agent, config, teacher):
            raise UsageError(f"distill.teachers: {path} {problem}")
        clear_noise(teacher.net)
        teachers.append(teacher)
    if isinstance(agent, SelfPlayAgent):
        return _player(agent, teachers)
    groups, start = [], 0
    for game, count in _games(config).items():
        of_game = [teacher for teacher in teachers if teacher.config.env.id == game]
        if not of_game:
            raise UsageError(f"distill.teachers: none of them plays {game}")
        end = start + (spec.num_actions if count is None else count)
        groups.append(_Group(slice(start, end), of_game))
        start = end
    return _student(agent, groups, config.distill)


class _Group(NamedTuple):
    """The teachers of one game."""

    actions: slice  # the game's actions, among those of all games that the student plays
    teachers: list[Saved]


def _problem(student: Agent, config: Config, teacher: Saved) -> str | None:
    """Why the student cannot learn from a teacher, worded as the end of a sentence about the teacher; None if it can."""
    theirs = teacher.config
    if isinstance(student, SelfPlayAgent) != isinstance(teacher.agent, SelfPlayAgent):
        return f"is of agent.name={theirs.agent.name}, from which agent.name={config.agent.name} cannot learn"
    for name, agent in ((config.agent.name, student), (theirs.agent.name, teacher.agent)):
        if not (agent.has_scores or isinstance(agent, SelfPlayAgent)):
            return f"cannot be used: agent.name={name} rates no actions"
    games = _games(config)
    if theirs.env.id not in games:
        return f"plays another game: {theirs.env.id}, not {' or '.join(games)}"
    count = games[theirs.env.id]
    if found := other_spaces(student.spec if count is None else student.spec._replace(num_actions=count), teacher.spec):
        return f"sees or chooses other things than the student: its {found}; set env.* as its config does"
    if student.spec.action_shape:
        return "has continuous actions, of which no policy is distilled"
    if teacher.agent.initial_state(1) != ():
        return f"has a memory, net.memory={theirs.net.memory}: a teacher must be a feed-forward net"
    if isinstance(student, SelfPlayAgent) and student.gated:
        return "plays the games, so a gate has nothing to decide: use agent.gate_games=0"
    return None


def _games(config: Config) -> dict[str, int | None]:
    """The games that a student plays, each with its number of actions; None instead if there is only one game."""
    if "+" not in config.env.id or not isinstance(config.env, atari_mixture.Config):
        return {config.env.id: None}
    return dict(atari_mixture.actions_of(config.env))


class _Teachers(nn.Module):
    """The mean evaluation of several teachers, as a net that self-play can use."""

    def __init__(self, teachers: list[Saved]):
        super().__init__()
        self.nets = nn.ModuleList(teacher.net for teacher in teachers)

    def evaluate(self, planes: Tensor) -> Evaluation:
        """planes [N,C,H,W] int8 -> logits and values, averaged over the teachers."""
        found = [net.evaluate(planes) for net in self.nets]  # type: ignore[operator]
        return Evaluation(torch.stack([one.logits for one in found]).mean(0), torch.stack([one.value for one in found]).mean(0))


def _player(agent: SelfPlayAgent, teachers: list[Saved]) -> Agent:
    """A student like `agent` whose games are played by its teachers' searches."""
    kind: Any = type(agent)

    class Student(kind):  # type: ignore[misc]
        def collector(self, net: Net, num_envs: int, *, seed: int, device: torch.device, bf16: bool) -> GameCollector:
            played: GameCollector = super().collector(_Teachers(teachers).to(device), num_envs, seed=seed, device=device, bf16=bf16)
            return played

    return Student(agent.config, agent.net_config, agent.spec)


def _student(agent: Agent, groups: list[_Group], config: DistillConfig) -> Agent:
    """A student like `agent` that learns to choose the same actions as its teachers."""
    kind: Any = type(agent)
    prepared = agent.makes_minibatches  # minibatches leave out the step after a rollout
    burn_in = agent.sequence.burn_in if isinstance(agent.sequence, Sequences) else 0

    class Student(kind):  # type: ignore[misc]
        def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
            action, state, extras = super().act(net, step, state, mode)
            if not mode.explore:  # an evaluation
                return action, state, extras
            policy = _policy(groups, step, config.temperature)  # [B,A]
            place = mode.first_env + torch.arange(len(action), device=action.device)  # [B]
            of_game = (mode.total_envs or len(action)) / len(groups)
            shown = place // len(groups) < round(config.teacher_share * of_game)  # the first environments of every game
            drawn = policy.multinomial(1, generator=mode.rng)[:, 0]  # [B]
            return torch.where(shown, drawn, action), state, {**extras, KEY: policy}

        def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
            steps = trajectory.steps
            if isinstance(self.sequence, Transitions):
                steps = trajectory.start()
            elif isinstance(self.sequence, Rollouts) and not prepared:
                steps = part_of(steps, slice(-1))
            clear_noise(net)
            scores = masks.masked(self.scores(net, steps, trajectory.state)[0], steps)  # [T,B,A]
            log_p, policy = scores.log_softmax(-1), steps.extras[KEY]
            kl = (policy * (policy.clamp(min=1e-30).log() - log_p)).sum(-1)  # [T,B]
            valid = ~steps.last  # [T,B]
            if burn_in:
                valid = valid & (torch.arange(len(kl), device=kl.device) >= burn_in).unsqueeze(-1)
            agree = (scores.argmax(-1) == policy.argmax(-1)).float()
            metrics = {"losses/kl_to_teacher": mean(kl, valid), "losses/same_action": mean(agree, valid)}
            own = Loss(columns(kl, valid), kl.detach(), metrics, valid=valid)
            return self.plus_auxiliary(own, net, steps.observation) if isinstance(self, NetAgent) else own

    made: Agent = Student(agent.config, agent.net_config, agent.spec)
    made.sequence = _with_policy(agent.sequence, agent.spec)
    return made


def _with_policy(sequence: SequenceSpec, spec: EnvSpec) -> SequenceSpec:
    """The sequence spec of a student: adds the teachers' policy, and makes n-step transitions one-step ones."""
    extra = Extra(KEY, (spec.num_actions,), "float32")
    if isinstance(sequence, Transitions):
        return Transitions(1, (*sequence.extras, extra))
    if isinstance(sequence, Sequences):
        return replace(sequence, extras=(*sequence.extras, extra))
    return sequence  # rollouts have all extras


def _policy(groups: list[_Group], step: Step, temperature: float | None) -> Tensor:
    """The teachers' policy p_T [B,A] f32 for `step`, leaves [1,B,...]."""
    if len(groups) == 1:
        return _of_game(groups[0].teachers, step, temperature)
    mask = step.extras[masks.KEY][0]  # [B,A]: which game a row plays
    policy = torch.zeros(mask.shape, device=mask.device)
    for actions, teachers in groups:
        rows = mask[:, actions].any(-1).nonzero()[:, 0]
        if len(rows):
            seen = part_of(step._replace(extras={}), (slice(None), rows))
            policy[rows, actions] = _of_game(teachers, seen, temperature)
    return policy


def _of_game(teachers: list[Saved], step: Step, temperature: float | None) -> Tensor:
    """The mean policy [B,A] f32 of teachers of one game for `step`, leaves [1,B,...]."""
    found = []
    for teacher in teachers:
        values = isinstance(teacher.agent, ValueAgent) and not teacher.config.distill.teachers  # a student's scores are logits
        default = OF_VALUES if values else OF_LOGITS
        scores, _ = teacher.agent.scores(teacher.net.to(step.reward.device), step, ())  # [1,B,A]
        found.append((masks.masked(scores, step)[0].float() / (temperature or default)).softmax(-1))
    return torch.stack(found).mean(0)
