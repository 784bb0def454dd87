"""AlphaGo (Silver et al. 2016): policies from game records and self-play, a value net, and a search with rollouts.

Four models are trained in three stages, which `configs/boards/alphago.yaml` runs one after the other:

    policy      p_σ(a|s), p_π(a|s)  from game records: CE(a*, p_σ) + CE(a*, p_π); p_π is the small, fast rollout policy
    reinforced  p_ρ(a|s)            starts as p_σ and plays a pool of its earlier versions: -z log p_ρ(a|s)
    value       v_θ(s)              from one position of each game that p_σ starts and p_ρ finishes: (z - v_θ(s))²

The search uses p_σ^β as its prior, and evaluates a leaf as (1 - λ) v_θ(s) + λ z_π, where z_π is the outcome of a rollout: a game
that p_π plays from there to its end.

Where we differ: positions are encoded as for our AlphaZero (5 planes, not 48); the nets use `net.torso` and Adam; the reinforced
stage learns from each move about once, a few updates after it was played, with the gradient weighted by min(2, p_ρ / p_played),
where p_played is the probability at the time of play; there is no second pass with the value net as a baseline; the rollout policy
has fewer features (`rollouts.py`); net and rollout evaluate a leaf at its first visit, where AlphaGo's search waited for 40 visits
before it asked the net, and there is no separate tree policy.

Shapes: T = 1 step, B batch, A = H W + 1 actions, N positions, C planes of H x W, R bytes per row.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from rlsuite.acting.board_agent import BoardAgent, BoardConfig, GameCollector
from rlsuite.agents.alphago.games import Expert, PlanePolicy, PoolPlay, RecordedPlay, ValuePlay
from rlsuite.agents.alphago.rollouts import NONE, Rollouts, playouts
from rlsuite.config import schema
from rlsuite.config.schema import NetConfig, absolute
from rlsuite.core.agent import Extra, Games, Loss, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.core.types import EnvSpec, State, Step, Trajectory
from rlsuite.envs.boards import go
from rlsuite.nets.board_net import IGNORED, BoardNet
from rlsuite.nets.precision import inference
from rlsuite.search import Evaluate, Puct
from rlsuite.search.evaluators import PolicyValue, encoder

# Keys of `AlphaGoConfig` that have an effect in one stage only.
_ONLY_IN = {
    "policy": ("records", "records_from_move", "records_tested"),
    "reinforced": ("pool_learner_steps", "pool_size"),
    "value": ("latest_random_move", "mix", "prior_exponent"),
}


class AlphaGoConfig(BoardConfig):
    """Settings of AlphaGo."""

    stage: Literal["policy", "reinforced", "value"] = "policy"
    """What to train: the policies, on game records (policy); the policy, in self-play (reinforced); or the value net (value)."""
    records: str | None = None
    """Stage policy: a folder of game records, as SGF or in rlsuite's text format."""
    records_from_move: int = Field(0, ge=0)
    """Stage policy: the first move of a game to learn from, counted from 0; skips a random opening, for example."""
    records_tested: float = Field(0.1, ge=0, le=0.5)
    """Stage policy: fraction of the games held out for testing."""
    symmetries: bool = True
    """Learn from a random symmetric image of each position."""
    pool_learner_steps: int = Field(500, ge=1)
    """Stage reinforced: learner steps between additions to the pool of opponents."""
    pool_size: int = Field(32, ge=1)
    """Stage reinforced: maximum size of the pool; when it is full, the oldest policies are dropped."""
    latest_random_move: int = Field(450, ge=1)
    """Stage value: the number U of the move that is played at random is drawn uniformly from 1 to this."""
    mix: float = Field(0.5, ge=0, le=1)
    """λ: weight of the rollout in the value of a leaf; the value net gets the rest."""
    prior_exponent: float = Field(0.67, gt=0)
    """β: the prior is the policy raised to this power."""
    c_init: float = Field(5.0, gt=0)
    """c_puct: weight of the prior against the values."""

    @field_validator("records")
    @classmethod
    def _from_everywhere(cls, value: str | None) -> str | None:
        return absolute(value)

    def play(self) -> Puct:
        """The search method: PUCT without noise at the root."""
        return Puct(self.c_init, fpu_reduction=0.0, noise_fraction=0.0)


class AlphaGoNet(nn.Module):
    """A module that holds AlphaGo's four models; only those of the current stage are trained."""

    def __init__(self, net: NetConfig, game: Game, stage: str):
        super().__init__()
        self.policy = BoardNet(net, game, 1)
        self.rollouts = Rollouts()
        self.reinforced = BoardNet(net, game, 1)
        self.value = BoardNet(net, game, 1)
        self.requires_grad_(False)
        learning = {
            "policy": [*_policy_parts(self.policy), self.rollouts],
            "reinforced": _policy_parts(self.reinforced),
            "value": [self.value.backbone, self.value.value_planes, self.value.hidden, self.value.outcome],
        }[stage]
        for part in learning:
            part.requires_grad_(True)

    def forward(self, step: Step, state: State) -> tuple[Any, State]:
        """The supervised policy's output for steps [T,B,...]."""
        return self.policy(step, state)  # type: ignore[no-any-return]


def _policy_parts(net: BoardNet) -> list[nn.Module]:
    return [net.backbone, net.policy_planes, net.policy]


class AlphaGo(BoardAgent):
    """AlphaGo agent, in one of its three stages: the net holds all four models, and those of the stage are trained."""

    Config: ClassVar[type[AlphaGoConfig]] = AlphaGoConfig
    has_target = False
    config: AlphaGoConfig

    def __init__(self, config: AlphaGoConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        if self.game.rules is not go.RULES:
            raise UsageError(
                f"agent.name={config.name} plays Go only, not {self.game.name}: use env.id=go(size=7,komi=9), for example"
            )
        extras = {
            "policy": (Extra("last", (), "int32"),),
            "reinforced": (
                Extra("outcome", (), "float32"),
                Extra("log_prob", (), "float32"),
                Extra("legal", (spec.num_actions,), "bool"),
            ),
            "value": (Extra("outcome", (), "float32"),),
        }[config.stage]
        self.sequence = Games(extras)

    @classmethod
    def ignores(cls, config: schema.Config) -> dict[str, str]:
        """Also ignores what a `BoardNet` ignores and, in a config for a single stage, the keys of the other stages."""
        assert isinstance(config.agent, AlphaGoConfig)
        others = [] if config.stages is not None else [stage for stage in _ONLY_IN if stage != config.agent.stage]
        ignored = {f"agent.{key}": f"agent.stage = {stage}" for stage in others for key in _ONLY_IN[stage]}
        if config.stages is None and config.agent.stage == "reinforced":
            ignored["agent.symmetries"] = "agent.stage other than reinforced"
        needs = f"agent.name = an agent with another net than that of {config.agent.name}"
        return super().ignores(config) | ignored | dict.fromkeys(IGNORED, needs)

    def make_net(self) -> AlphaGoNet:
        return AlphaGoNet(self.net_config, self.game, self.config.stage)

    def init_net(self, net: Net) -> None:
        """In stage reinforced, copies the supervised policy's weights to the policy that is trained."""
        if self.config.stage == "reinforced":
            nets = _as_ours(net)
            nets.reinforced.load_state_dict(nets.policy.state_dict())

    def collector(self, net: Net, num_envs: int, *, seed: int, device: torch.device, bf16: bool) -> GameCollector:
        """The collector of this stage. UsageError if the stage learns from game records and there are none."""
        config, nets = self.config, _as_ours(net)

        def policy_of(one: nn.Module) -> PlanePolicy:
            def policy(planes: NDArray[np.int8]) -> NDArray[np.float32]:
                with inference(device, bf16):
                    logits: NDArray[np.float32] = one.evaluate(torch.from_numpy(planes).to(device)).logits.cpu().numpy()  # type: ignore[operator]
                return logits

            return policy

        if config.stage == "reinforced":
            return PoolPlay(num_envs, self.game, seed, nets.reinforced, policy_of, config.pool_learner_steps, config.pool_size)
        if config.stage == "value":
            latest = config.latest_random_move
            return ValuePlay(num_envs, self.game, seed, policy_of(nets.policy), policy_of(nets.reinforced), latest)
        if config.records is None:
            raise UsageError("agent.records = null: agent.stage = policy learns from game records; name a folder of them")
        learned, tested = Expert.read(config.records, self.game, config.records_from_move, config.records_tested)
        policy = policy_of(nets.policy)

        def evaluate(planes: NDArray[np.int8], action: NDArray[np.int64], last: NDArray[np.int32]) -> dict[str, float]:
            with torch.no_grad():
                small = nets.rollouts(torch.from_numpy(planes).to(device), torch.from_numpy(last).to(device)).cpu().numpy()
            empty = (planes[:, :2].sum(1) == 0).reshape(len(planes), -1)  # [n,H*W]
            no_pass = action < empty.shape[1]  # the rollout policy passes by a rule that is not learned
            guess = np.where(empty, small, -np.inf).argmax(1)
            return {
                "test/policy_accuracy": float((policy(planes).argmax(1) == action).mean()),
                "test/rollout_accuracy": float((guess == action)[no_pass].mean()),
            }

        return RecordedPlay(num_envs, self.game, seed, learned, tested, evaluate)

    def evaluator(self, net: Net, game: Game | None = None) -> Evaluate:
        """The search's leaf evaluator: priors from the policy, values from rollouts, in stage value mixed with the value net's."""
        config, game, nets = self.config, game or self.game, _as_ours(net)
        encode, play_out = encoder(game.rules), playouts(game.rules.play)
        weights, device = nets.rollouts.weights(), next(net.parameters()).device
        policy = nets.reinforced if config.stage == "reinforced" else nets.policy
        exponent, mix = (config.prior_exponent, config.mix) if config.stage == "value" else (1.0, 1.0)

        def evaluate(rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
            planes = np.empty((len(rows), *game.observation_shape), np.int8)
            encode(rows, planes)
            inputs = torch.from_numpy(planes).to(device)
            logits = (policy.evaluate(inputs).logits.float() * exponent).cpu().numpy()
            values = np.zeros(len(rows), np.float32)
            if mix > 0:
                play_out(rows.copy(), np.full(len(rows), NONE), keys.copy(), weights, values)
            if mix < 1:
                values = (1 - mix) * nets.value.evaluate(inputs).value.float().cpu().numpy() + mix * values
            return logits, values.astype(np.float32)

        return evaluate

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, nets, stage = trajectory.steps, _as_ours(net), self.config.stage
        planes, action = steps.observation[0], steps.action[0]  # [B,C,H,W], [B]
        last = steps.extras["last"][0].long() if stage == "policy" else torch.full_like(action, NONE)  # [B]
        if stage != "reinforced":  # its log-probabilities belong to the position as it was played
            planes, action, last = self._turned(planes, action, last, rng)
        if stage == "policy":
            return self._imitate(nets, planes, action, last)
        z = steps.extras["outcome"][0]  # [B]
        if stage == "reinforced":
            legal = steps.extras["legal"][0]  # [B,A]; moves were sampled from these only
            log_p = nets.reinforced.evaluate(planes).logits.masked_fill(~legal, -1e9).log_softmax(-1)  # [B,A]
            taken = log_p.gather(1, action.unsqueeze(1)).squeeze(1)  # [B]
            ratio = (taken.detach() - steps.extras["log_prob"][0]).exp().clamp(max=2.0)
            entropy = -(log_p.exp() * log_p).sum(-1).mean()
            metrics = {"losses/entropy": entropy.detach(), "losses/ratio": ratio.mean(), "losses/outcome": z.mean()}
            return Loss(-ratio * z * taken, None, metrics)
        error = (nets.value.evaluate(planes).value - z) ** 2  # [B]
        return Loss(error, None, {"losses/value_error": error.detach().mean()})

    def _imitate(self, nets: AlphaGoNet, planes: Tensor, action: Tensor, last: Tensor) -> Loss:
        """The loss of stage policy: the policy learns all moves, the rollout policy all moves but passes."""
        logits = nets.policy.evaluate(planes).logits  # [B,A]
        policy_loss = F.cross_entropy(logits, action, reduction="none")  # [B]
        empty = (planes[:, :2].sum(1) == 0).flatten(1)  # [B,H*W]
        small = nets.rollouts(planes, last).masked_fill(~empty, -1e9)
        no_pass = action < empty.shape[1]  # [B]
        rollout_loss = F.cross_entropy(small, action.clamp(max=empty.shape[1] - 1), reduction="none") * no_pass  # [B]
        with torch.no_grad():
            metrics = {
                "losses/policy_loss": policy_loss.mean(),
                "losses/rollout_loss": rollout_loss.sum() / no_pass.sum().clamp(min=1),
                "losses/policy_accuracy": (logits.argmax(1) == action).float().mean(),
                "losses/rollout_accuracy": (small.argmax(1) == action)[no_pass].float().mean(),
            }
        return Loss(policy_loss + rollout_loss, None, metrics)

    def _turned(self, planes: Tensor, action: Tensor, last: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A random symmetry of each position, applied to its planes [B,C,H,W] and its moves [B]."""
        maps = self.game.action_maps  # [S,A]
        if not self.config.symmetries:
            return planes, action, last
        chosen = torch.randint(len(maps), action.shape, generator=rng, device=action.device)  # [B]
        cells = torch.from_numpy(self.game.cell_maps).to(action.device, torch.int64)[chosen]  # [B,H*W]
        flat = planes.flatten(2)
        turned = flat.gather(2, cells.unsqueeze(1).expand(-1, flat.shape[1], -1)).view_as(planes)
        inverse = torch.from_numpy(np.argsort(maps, 1)).to(action.device, torch.int64)[chosen]  # [B,A] where an action goes
        moved = inverse.gather(1, torch.stack([action, last.clamp(min=0)], 1))  # [B,2]
        return turned, moved[:, 0], torch.where(last < 0, last, moved[:, 1])


def _as_ours(net: Net) -> AlphaGoNet:
    assert isinstance(net, AlphaGoNet)
    return net
