"""The settings of agents that learn from self-play: how games are played, and how they are searched."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlsuite.acting.board_agent import BoardConfig
from rlsuite.acting.slots import Plan
from rlsuite.config.conditions import OnlyIf
from rlsuite.search import Gumbel, Puct

_GUMBEL, _PUCT, _RESIGN, _GATE = (
    OnlyIf(condition) for condition in ("method = gumbel", "method = puct", "resign = true", "gate_games > 0")
)


class SelfPlayConfig(BoardConfig):
    """Settings of every agent that learns from self-play."""

    method: Literal["gumbel", "puct"] = "gumbel"
    """Search method: Gumbel AlphaZero's (gumbel) or AlphaZero's PUCT (puct)."""
    simulations: int = Field(32, ge=1, le=1_000_000)
    """Simulations per full search."""
    fast_simulations: Annotated[int, OnlyIf("full_fraction < 1")] = Field(8, ge=1, le=1_000_000)
    """Simulations per fast search; positions of fast searches are not used for training."""
    full_fraction: float = Field(1.0, gt=0, le=1)
    """Share of searches that are full (playout cap randomisation, Wu 2019)."""
    considered: Annotated[int, _GUMBEL] = Field(16, ge=1)
    """gumbel: actions considered at the root."""
    c_visit: Annotated[float, _GUMBEL] = Field(50.0, ge=0)
    """gumbel: weight of the visits in the transformed values."""
    c_scale: Annotated[float, _GUMBEL] = Field(1.0, gt=0)
    """gumbel: scale of the transformed values."""
    c_init: Annotated[float, _PUCT] = Field(1.25, gt=0)
    """puct: weight of the prior against the values."""
    fpu_reduction: Annotated[float, _PUCT] = Field(0.25, ge=0)
    """puct: first-play urgency: unvisited children get their parent's value minus this."""
    noise_fraction: Annotated[float, _PUCT] = Field(0.25, ge=0, le=1)
    """puct: share of Dirichlet noise in the priors at the root, in full searches."""
    noise_total: Annotated[float, _PUCT, OnlyIf("noise_fraction > 0")] = Field(10.0, gt=0)
    """puct: α of the Dirichlet noise times the number of legal moves."""
    temperature: Annotated[float, _PUCT, OnlyIf("temperature_moves > 0")] = Field(1.0, gt=0)
    """puct: moves are sampled in proportion to visits^(1 / temperature)."""
    temperature_end: Annotated[float, _PUCT, OnlyIf("temperature_halflife > 0")] = Field(0.2, gt=0)
    """puct: limit of the temperature in late moves."""
    temperature_halflife: Annotated[float, _PUCT, OnlyIf("temperature_moves > 0")] = Field(0.0, ge=0)
    """puct: half-life, in moves, of the decay from `temperature` to `temperature_end` (Wu 2019); 0: constant temperature."""
    forced_playouts: Annotated[float, _PUCT] = Field(0.0, ge=0)
    """puct: k of forced playouts and policy target pruning at roots with noise (Wu 2019, section 3.2, uses 2); 0: none."""
    kl_gain: Annotated[float, _PUCT] = Field(0.0, ge=0)
    """puct: end a full search once a simulation changes the visit distribution by less than this, in nats; 0: never."""
    kl_gain_simulations: Annotated[int, _PUCT, OnlyIf("kl_gain > 0")] = Field(16, ge=1)
    """puct: number of simulations over which that change is averaged."""
    temperature_moves: int = Field(15, ge=0)
    """Number of moves, opening included, that are sampled with noise at the root; later moves are the best ones, without noise."""
    opening_fraction: float = Field(0.0, ge=0, le=1)
    """Share of games that start with random moves."""
    opening_moves: Annotated[int, OnlyIf("opening_fraction > 0")] = Field(8, ge=1)
    """Largest number of random moves in such an opening."""
    resign: bool = False
    """Resign lost games; some are played out to measure false resignations."""
    resign_disabled_fraction: Annotated[float, _RESIGN] = Field(0.1, gt=0, le=1)
    """Share of games in which resignation is disabled."""
    resign_false_positives: Annotated[float, _RESIGN] = Field(0.05, ge=0, lt=1)
    """Maximum share of false resignations among the games played out."""
    gate_games: int = Field(0, ge=0)
    """Games in the match that a new net must win before it is used for self-play; 0: always use the newest net."""
    gate_score: Annotated[float, _GATE] = Field(0.55, gt=0, le=1)
    """Share of the points needed to win that match; a draw counts half."""
    gate_learner_steps: Annotated[int, _GATE] = Field(1000, ge=1)
    """Learner steps between such matches."""
    eval_simulations: int = Field(200, ge=1, le=1_000_000)
    """Simulations per move in evaluations and play."""

    @model_validator(mode="after")
    def _caps(self) -> "SelfPlayConfig":
        if self.full_fraction < 1 and self.fast_simulations > self.simulations:
            raise ValueError(
                f"fast_simulations {self.fast_simulations} is more than simulations {self.simulations} of a full search"
            )
        return self

    def explore(self) -> Puct | Gumbel:
        """The search method of self-play."""
        if self.method == "gumbel":
            return Gumbel(self.considered, self.c_visit, self.c_scale)
        return Puct(
            self.c_init,
            fpu_reduction=self.fpu_reduction,
            noise_fraction=self.noise_fraction,
            noise_total=self.noise_total,
            forced=self.forced_playouts,
        )

    def plan(self) -> Plan:
        """How the games of self-play are played."""
        return Plan(
            self.method == "puct",
            self.simulations,
            self.fast_simulations,
            self.full_fraction,
            self.temperature,
            self.temperature_end,
            self.temperature_halflife,
            self.temperature_moves,
            self.opening_fraction,
            self.opening_moves,
            1.0 - self.resign_disabled_fraction if self.resign else 0.0,
            self.kl_gain,
            self.kl_gain_simulations,
        )

    def play(self) -> Puct | Gumbel:
        """The same search method without noise."""
        method = self.explore()
        return method._replace(noise=0.0) if isinstance(method, Gumbel) else method._replace(noise_fraction=0.0, forced=0.0)
