"""AlphaGo (Silver et al. 2016): policies from records and from self-play, a value net, and a search with rollouts.

Four things are learned, in three stages, of which `configs/boards/alphago.yaml` runs one after the other:

    policy      p_σ(a|s), p_π(a|s)  from records: CE(a*, p_σ) + CE(a*, p_π); p_π is the small, fast rollout policy
    reinforced  p_ρ(a|s)            from p_σ, by games against a pool of its earlier selves: -z log p_ρ(a|s)
    value       v_θ(s)              from one position of each game that p_σ begins and p_ρ ends: (z - v_θ(s))²

The search has p_σ^β for its prior, and a leaf is worth (1 - λ) v_θ(s) + λ z_π, z_π the outcome of a game that p_π plays from there.

Where we differ: positions are encoded as for AlphaZero here (5 planes, not 48); the nets are `net.torso`, with Adam; a move of the
reinforced stage is learned from about once, a few updates after it was made, its gradient weighted by min(2, p_ρ / p_then); there
is no second pass with the value net as a baseline; the rollout policy has fewer features (`rollouts.py`); a leaf gets its net's
opinion and a rollout at once, where AlphaGo's search waited 40 visits for the net, and has no tree policy beside it.

Shapes: T = 1 step, B batch, A = H W + 1 actions, N positions, C planes of H x W, R bytes a row.
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
from rlsuite.config.schema import NetConfig, absolute
from rlsuite.core.agent import Extra, Games, Loss, Mode, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step, Trajectory
from rlsuite.nets.board_net import BoardNet
from rlsuite.search import Evaluate, Puct
from rlsuite.search.evaluators import PolicyValue, encoder
from rlsuite.search.search import search_rows, without_search


class AlphaGoConfig(BoardConfig):
    stage: Literal["policy", "reinforced", "value"] = "policy"
    """Which nets learn: the policies from records, the policy by self-play, or the value net."""
    records: str | None = None
    """Stage policy: a folder of SGF records or of rlsuite's text records."""
    records_from_move: int = Field(0, ge=0)
    """Stage policy: earlier moves are not learned from, such as those of a random opening."""
    records_tested: float = Field(0.1, ge=0, le=0.5)
    """Stage policy: share of the games that is held out for testing."""
    symmetries: bool = True
    """Learn from a random one of the symmetric images of each position."""
    pool_learner_steps: int = Field(500, ge=1)
    """Stage reinforced: learner steps between two policies that join the pool of opponents."""
    pool_size: int = Field(32, ge=1)
    """Stage reinforced: the largest size of the pool; the oldest leave."""
    latest_random_move: int = Field(450, ge=1)
    """Stage value: the random move U is drawn from 1 to this."""
    mix: float = Field(0.5, ge=0, le=1)
    """λ: weight of the rollout in the value of a leaf, against the value net."""
    prior_exponent: float = Field(0.67, gt=0)
    """β: the policy is raised to this power as a prior."""
    c_init: float = Field(5.0, gt=0)
    """c_puct: weight of the prior against the values."""

    @field_validator("records")
    @classmethod
    def _from_everywhere(cls, value: str | None) -> str | None:
        return absolute(value)

    def play(self) -> Puct:
        """How it searches."""
        return Puct(self.c_init, fpu_reduction=0.0, noise_fraction=0.0)


class AlphaGoNet(nn.Module):
    """All four; only those of the stage learn."""

    def __init__(self, net: NetConfig, spec: EnvSpec, scale: float, stage: str):
        super().__init__()
        self.policy = BoardNet(net, spec, 1, scale)
        self.rollouts = Rollouts()
        self.reinforced = BoardNet(net, spec, 1, scale)
        self.value = BoardNet(net, spec, 1, scale)
        self.requires_grad_(False)
        learning = {
            "policy": [*_policy_parts(self.policy), self.rollouts],
            "reinforced": _policy_parts(self.reinforced),
            "value": [self.value.backbone, self.value.value_planes, self.value.hidden, self.value.outcome],
        }[stage]
        for part in learning:
            part.requires_grad_(True)

    def forward(self, step: Step, state: State) -> tuple[Any, State]:
        """[T,B,...] -> the supervised policy's judgement."""
        return self.policy(step, state)  # type: ignore[no-any-return]


def _policy_parts(net: BoardNet) -> list[nn.Module]:
    return [net.backbone, net.policy_planes, net.policy]


class AlphaGo(BoardAgent):
    """One of the three stages: its net holds all nets, of which those of the stage learn."""

    Config: ClassVar[type[AlphaGoConfig]] = AlphaGoConfig
    has_target = False
    config: AlphaGoConfig

    def __init__(self, config: AlphaGoConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        if not self.game.name.startswith("go("):
            raise UsageError(f"agent.name={config.name} plays Go, such as env.id=go(size=7,komi=9)")
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

    def make_net(self) -> AlphaGoNet:
        return AlphaGoNet(self.net_config, self.spec, self.game.plane_scale, self.config.stage)

    def init_net(self, net: Net) -> None:
        """The policy that is reinforced begins as the supervised one."""
        if self.config.stage == "reinforced":
            nets = _as_ours(net)
            nets.reinforced.load_state_dict(nets.policy.state_dict())

    def collector(self, net: Net, num_envs: int, *, seed: int, device: torch.device, bf16: bool) -> GameCollector:
        """UsageError without records, in the stage that learns from them."""
        config, nets = self.config, _as_ours(net)

        def ask(one: nn.Module) -> PlanePolicy:
            def logits(planes: NDArray[np.int8]) -> NDArray[np.float32]:
                with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    found: NDArray[np.float32] = one.evaluate(torch.from_numpy(planes).to(device)).logits.cpu().numpy()  # type: ignore[operator]
                return found

            return logits

        if config.stage == "reinforced":
            return PoolPlay(num_envs, self.game, seed, nets.reinforced, ask, config.pool_learner_steps, config.pool_size)
        if config.stage == "value":
            latest = config.latest_random_move
            return ValuePlay(num_envs, self.game, seed, ask(nets.policy), ask(nets.reinforced), latest)
        if config.records is None:
            raise UsageError("agent.records: the first stage learns from records of games; name a folder of them")
        learned, tested = Expert.read(config.records, self.game, config.records_from_move, config.records_tested)
        plays = ask(nets.policy)

        def evaluate(planes: NDArray[np.int8], action: NDArray[np.int64], last: NDArray[np.int32]) -> dict[str, float]:
            with torch.no_grad():
                small = nets.rollouts(torch.from_numpy(planes).to(device), torch.from_numpy(last).to(device)).cpu().numpy()
            empty = (planes[:, :2].sum(1) == 0).reshape(len(planes), -1)  # [n,H*W]
            moved = action < empty.shape[1]  # a rollout passes by rule, not by what it has learned
            guess = np.where(empty, small, -np.inf).argmax(1)
            return {
                "test/policy_accuracy": float((plays(planes).argmax(1) == action).mean()),
                "test/rollout_accuracy": float((guess == action)[moved].mean()),
            }

        return RecordedPlay(num_envs, self.game, seed, learned, tested, evaluate)

    def evaluator(self, net: Net) -> Evaluate:
        """Of the last stage what the search asks; of the others their policy, and no opinion of who wins."""
        config, game, nets = self.config, self.game, _as_ours(net)
        encode, play_out = encoder(game.rules), playouts(game.rules.play)
        weights, device = nets.rollouts.weights(), next(net.parameters()).device
        policy = nets.reinforced if config.stage == "reinforced" else nets.policy
        exponent, mix = (config.prior_exponent, config.mix) if config.stage == "value" else (1.0, 1.0)

        def evaluate(rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
            planes = np.empty((len(rows), *game.observation_shape), np.int8)
            encode(rows, planes)
            seen = torch.from_numpy(planes).to(device)
            logits = (policy.evaluate(seen).logits.float() * exponent).cpu().numpy()
            values = np.zeros(len(rows), np.float32)
            if mix > 0:
                play_out(rows.copy(), np.full(len(rows), NONE), keys.copy(), weights, values)
            if mix < 1:
                values = (1 - mix) * nets.value.evaluate(seen).value.float().cpu().numpy() + mix * values
            return logits, values.astype(np.float32)

        return evaluate

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Searches the positions `step.extras["row"]` [1,B,R], or asks the policy. Actions [B]; 0 where the game is over."""
        rows = step.extras["row"][0].cpu().numpy()  # [B,R]
        running = np.flatnonzero(step.extras["action_mask"][0].any(-1).cpu().numpy())
        action, config = np.zeros(len(rows), np.int64), self.config  # [B]
        if running.size:
            seed, evaluate = int(torch.randint(2**31, (), generator=mode.rng, device=mode.rng.device)), self.evaluator(net)
            if config.eval_simulations == 0:
                action[running] = without_search(self.game, rows[running], evaluate)
            else:
                simulations, method = config.eval_simulations, config.play()
                found = search_rows(self.game, rows[running], evaluate, simulations, method, seed, solve=config.solve)
                action[running] = found.action
        return torch.from_numpy(action), state, {}

    def loss(self, net: Net, target: Net, trajectory: Trajectory, rng: torch.Generator) -> Loss:
        steps, nets, stage = trajectory.steps, _as_ours(net), self.config.stage
        planes, action = steps.observation[0], steps.action[0]  # [B,C,H,W], [B]
        last = steps.extras["last"][0].long() if stage == "policy" else torch.full_like(action, NONE)  # [B]
        if stage != "reinforced":  # whose log-probabilities are of the position as it lay
            planes, action, last = self._turned(planes, action, last, rng)
        if stage == "policy":
            return self._imitate(nets, planes, action, last)
        z = steps.extras["outcome"][0]  # [B]
        if stage == "reinforced":
            legal = steps.extras["legal"][0]  # [B,A]; of others no move was ever drawn
            log_p = nets.reinforced.evaluate(planes).logits.masked_fill(~legal, -1e9).log_softmax(-1)  # [B,A]
            taken = log_p.gather(1, action.unsqueeze(1)).squeeze(1)  # [B]
            ratio = (taken.detach() - steps.extras["log_prob"][0]).exp().clamp(max=2.0)
            entropy = -(log_p.exp() * log_p).sum(-1).mean()
            metrics = {"losses/entropy": entropy.detach(), "losses/ratio": ratio.mean(), "losses/outcome": z.mean()}
            return Loss(-ratio * z * taken, None, metrics)
        error = (nets.value.evaluate(planes).value - z) ** 2  # [B]
        return Loss(error, None, {"losses/value_error": error.detach().mean()})

    def _imitate(self, nets: AlphaGoNet, planes: Tensor, action: Tensor, last: Tensor) -> Loss:
        """The policy learns all moves, the rollout policy those that are no passes."""
        logits = nets.policy.evaluate(planes).logits  # [B,A]
        policy_loss = F.cross_entropy(logits, action, reduction="none")  # [B]
        empty = (planes[:, :2].sum(1) == 0).flatten(1)  # [B,H*W]
        small = nets.rollouts(planes, last).masked_fill(~empty, -1e9)
        moved = action < empty.shape[1]  # [B]
        rollout_loss = F.cross_entropy(small, action.clamp(max=empty.shape[1] - 1), reduction="none") * moved  # [B]
        with torch.no_grad():
            metrics = {
                "losses/policy_loss": policy_loss.mean(),
                "losses/rollout_loss": rollout_loss.sum() / moved.sum().clamp(min=1),
                "losses/policy_accuracy": (logits.argmax(1) == action).float().mean(),
                "losses/rollout_accuracy": (small.argmax(1) == action)[moved].float().mean(),
            }
        return Loss(policy_loss + rollout_loss, None, metrics)

    def _turned(self, planes: Tensor, action: Tensor, last: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A random symmetric image of each position: planes [B,C,H,W], moves [B]."""
        maps = self.game.action_maps  # [S,A]
        if not self.config.symmetries:
            return planes, action, last
        which = torch.randint(len(maps), action.shape, generator=rng, device=action.device)  # [B]
        cells = torch.from_numpy(self.game.cell_maps).to(action.device, torch.int64)[which]  # [B,H*W]
        flat = planes.flatten(2)
        turned = flat.gather(2, cells.unsqueeze(1).expand(-1, flat.shape[1], -1)).view_as(planes)
        where = torch.from_numpy(np.argsort(maps, 1)).to(action.device, torch.int64)[which]  # [B,A] where an action goes
        gone = where.gather(1, torch.stack([action, last.clamp(min=0)], 1))  # [B,2]
        return turned, gone[:, 0], torch.where(last < 0, last, gone[:, 1])


def _as_ours(net: Net) -> AlphaGoNet:
    assert isinstance(net, AlphaGoNet)
    return net
