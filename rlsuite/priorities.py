"""First priorities, given by the collector instead of the store (Ape-X, Horgan et al. 2018): slices that are new need no waiting.

Shapes: K steps and L lanes of a chunk, K' of them starts of slices that the chunk completes, T steps of a slice.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rlsuite.agent import Agent, Net
from rlsuite.replay.ring import Ring, completed
from rlsuite.step import Chunk, EnvSpec, to_tensors


class Priorities:
    """Cuts the slices that a chunk completes as a store would, and asks the agent's own loss and `priority` with the acting net."""

    def __init__(self, agent: Agent, spec: EnvSpec, lanes: int, steps: int, seed: int, device: torch.device):
        """`steps`: K, the longest chunk."""
        assert agent.slice.length is not None
        slots = steps + agent.slice.length + max(spec.stack, agent.slice.stride)
        self.agent, self.ring, self.device = agent, Ring(spec, lanes, slots, agent.slice), device
        self.rng = torch.Generator(device).manual_seed(seed)

    def __call__(self, net: Net, chunk: Chunk) -> NDArray[np.float64]:
        """[K',L] > 0; those of final observations, which start no slice, are not read."""
        ring, before = self.ring, self.ring.head
        ring.write(chunk)
        starts = completed(before, ring.head, ring.length)  # [K']
        priority = np.ones((starts.size, ring.lanes))
        there = ring.starts(starts)  # [K',L]
        if there.any():
            row, lane = np.nonzero(there)  # [B]
            trajectory = to_tensors(ring.read(lane, starts[row]), self.device)
            with torch.no_grad():
                loss = self.agent.loss(net, net, trajectory, self.rng)
            priority[there] = self.agent.priority(*loss.counted()).double().cpu().numpy()
        return priority

    def end_streams(self) -> None:
        self.ring.end_streams()

    def state_dict(self) -> dict[str, Any]:
        return {"ring": self.ring.state_dict(), "rng": self.rng.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError if it was saved with longer or shorter chunks, or other slices."""
        if state["ring"]["slots"] != self.ring.slots:
            raise ValueError("run.collect_agent_steps has changed, which replay.initial_priority = td does not allow")
        self.ring.load_state_dict(state["ring"])
        self.rng.set_state(state["rng"])
