"""Decision Transformer (Chen et al. 2021): a policy conditioned on the return to reach, learned from recordings alone.

    L = -log π(a_t | R_{t-K..t}, s_{t-K..t}, a_{t-K..t-1})    R_t: the return from step t to the end of the episode

In play, R starts at `target_return` and falls by every reward received. From recordings of mixed quality, the agent can thus
imitate the better ones, whereas behaviour cloning imitates the mixture.

Where we differ: a step is a single token (observation, return and previous action) instead of three; the transformer is our gated
one (`net.memory=attention(window=K)`), and any other memory core can take its place. Returns are not discounted.

Shapes: N recorded steps, T time, B batch.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from rlsuite.agents.behaviour_cloning import BehaviourCloning, BehaviourCloningConfig
from rlsuite.config import schema
from rlsuite.config.schema import NetConfig
from rlsuite.core.agent import Extra, Mode, Net, Sequences
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step
from rlsuite.nets.memory import Core, ReturnToGo, initial_state
from rlsuite.nets.policy_net import PolicyNet


class DecisionTransformerConfig(BehaviourCloningConfig):
    """Settings of the decision transformer."""

    target_return: float | None = None
    """Return to aim for in evaluations, within the range of the recordings; null: an error that states this range."""
    return_scale: float = Field(1.0, gt=0)
    """Divide returns by this before they enter the net."""


class DecisionTransformer(BehaviourCloning):
    """Decision-transformer agent: discrete or continuous actions."""

    Config: ClassVar[type[DecisionTransformerConfig]] = DecisionTransformerConfig
    config: DecisionTransformerConfig

    def __init__(self, config: DecisionTransformerConfig, net: NetConfig, spec: EnvSpec):
        super().__init__(config, net, spec)
        assert isinstance(self.sequence, Sequences)  # as `validate` has checked
        sequence = self.sequence
        extras = (*sequence.extras, Extra("to_go", (), "float32"))
        self.sequence = Sequences(sequence.burn_in, sequence.unroll, 0, sequence.stride, extras=extras)

    @classmethod
    def validate(cls, config: schema.Config) -> None:
        """Also refuses a net without a memory, or one that does not see the rewards, which lower the return to go."""
        super().validate(config)
        if config.net.memory == "none":
            raise ValueError("agent.name = decision_transformer needs a memory: use net.memory = attention(window=32)")
        if not config.net.last_action_reward:
            raise ValueError("agent.name = decision_transformer needs the rewards that come: use net.last_action_reward = true")

    def _wrap(self, make: Callable[[int], Core], features: int) -> Core:
        return ReturnToGo(make, features, self.config.target_return or 0.0, self.config.return_scale)

    def make_net(self) -> PolicyNet:
        return self.extended(PolicyNet(self.net_config, self.spec, self._wrap))

    def initial_state(self, batch: int) -> State:
        return initial_state(self.net_config, self.spec, batch, self._wrap)

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        if self.config.target_return is None:
            raise UsageError("agent.target_return = null: name the return to ask for")
        return super().act(net, step, state, mode)

    def recorded(self, steps: Step) -> Step:
        """Adds `to_go` [N], the return from each step on, to steps [N,...].

        UsageError if `target_return` is not set or lies outside the range of the recorded returns.
        """
        ends = np.flatnonzero(steps.last).tolist()
        to_go = np.empty(len(steps.reward), np.float32)
        begin, returns = 0, list[float]()
        for end in ends:
            rewards = steps.reward[begin : end + 1].astype(np.float64)  # each came with its observation
            to_go[begin : end + 1] = rewards.sum() - rewards.cumsum()
            returns.append(float(rewards[1:].sum()))
            begin = end + 1
        asked, low, high = self.config.target_return, min(returns), max(returns)
        if asked is None or not low <= asked <= high:
            said = "is not set" if asked is None else f"= {asked:g} was never reached or left"
            raise UsageError(f"agent.target_return {said}: the recorded returns go from {low:g} to {high:g}")
        extras: dict[str, Any] = {**steps.extras, "to_go": to_go}
        return steps._replace(extras=extras)
