"""Shared parts of the agents that learn from recordings but do not play. Shapes: T time, B batch."""

from typing import ClassVar

from torch import Tensor

from rlsuite.core.agent import Agent, Mode, Net
from rlsuite.core.errors import UsageError
from rlsuite.core.types import State, Step
from rlsuite.nets.memory import initial_state


class RecordingAgent(Agent):
    """Base class of agents that learn from recordings and do not play. A subclass implements `loss` and `rate`."""

    offline = True
    plays = False
    has_target = False
    use: ClassVar[str]  # what its trained net is for, as the end of a sentence

    def initial_state(self, batch: int) -> State:
        return initial_state(self.net_config, self.spec, batch)

    def act(self, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        raise UsageError(f"agent.name={self.config.name} does not play: {self.use}")
