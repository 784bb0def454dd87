"""Initial priorities computed by the collector (Ape-X, Horgan et al. 2018, section 4) instead of the store.

Shapes: K steps and L environments of an unroll, K' starts of the sequences that it completes, B of these sequences.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.core.agent import Agent, Net
from rlsuite.core.types import EnvSpec, Unroll, to_tensors
from rlsuite.replay.layout import layout_of
from rlsuite.replay.ring import Ring, completed
from rlsuite.replay.stacks import stacked


class InitialPriorities:
    """Priorities of the sequences that an unroll completes, from the agent's own `loss` and `priority` with the acting net.

    A small ring buffer holds the newest steps, and yields the same sequences from them as the store will.
    """

    def __init__(self, agent: Agent, spec: EnvSpec, num_envs: int, steps: int, seed: int, device: torch.device):
        """`steps`: K, the length of the longest unroll."""
        layout = layout_of(agent.sequence)
        slots = steps + layout.length + max(spec.stack, layout.stride)
        self.agent, self.ring, self.device = agent, Ring(spec, num_envs, slots, layout), device
        self.rng = torch.Generator(device).manual_seed(seed)

    def __call__(self, net: Net, unroll: Unroll) -> NDArray[np.float64]:
        """Priorities [K',L] f64 > 0. Final observations start no sequence; their entries are 1 and never used."""
        ring, before = self.ring, self.ring.head
        ring.write(unroll)
        starts = completed(before, ring.head, ring.layout.length)  # [K']
        priority = np.ones((starts.size, ring.num_envs))
        there = ring.starts(starts)  # [K',L]
        if there.any():
            row, env_index = np.nonzero(there)  # [B]
            trajectory = to_tensors(stacked(ring.read(env_index, starts[row])), self.device)
            with torch.no_grad():
                trajectory = self.agent.observe(net, trajectory, learning=False)
                loss = self.agent.loss(net, net, trajectory, self.rng)
            priority[there] = self.agent.priority(*loss.priority_inputs()).double().cpu().numpy()
        return priority

    def end_streams(self) -> None:
        """Ends every stream at its newest step, as a time limit would: no sequence continues into the next unroll."""
        self.ring.end_streams()

    def state_dict(self) -> dict[str, Any]:
        """The ring's steps and the random state."""
        return {"ring": self.ring.state_dict(), "rng": self.rng.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned. ValueError if it was saved with unrolls of another length, or other sequences."""
        if state["ring"]["slots"] != self.ring.slots:
            raise ValueError(
                "run.collect_agent_steps or the length of sequences has changed, which replay.initial_priority = td does not allow"
            )
        self.ring.load_state_dict(state["ring"])
        self.rng.set_state(state["rng"])
