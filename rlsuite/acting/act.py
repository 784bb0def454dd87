"""Acting, the same for collectors and for saved agents."""

from torch import Tensor

from rlsuite.core.agent import Actor, Mode, Net
from rlsuite.core.types import State, Step


def act(actor: Actor, net: Net, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
    """Calls `Actor.act`, and keeps the chosen action in the recurrent state of nets that see it (`net.last_action_reward`).

    `step` has leaves [1,B,...]. Returns actions [B,...], the new state, and extras [B,...].
    """
    action, state, extras = actor.act(net, step, state, mode)
    return action, (*state[:-1], action) if actor.sees_last_action else state, extras
