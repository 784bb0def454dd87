"""Acting with weights that are a fixed number of updates old, to study the policy lag of distributed collectors on one machine."""

import copy
from collections import deque
from typing import Any

import torch
from torch import nn


class PolicyLag:
    """Keeps the net to act with, as `net`: the learner's own if `learner_steps` is 0, else a copy that many updates older."""

    def __init__(self, net: nn.Module, learner_steps: int):
        self.newest, self.learner_steps = net, learner_steps
        self.net = copy.deepcopy(net).requires_grad_(False) if learner_steps else net
        self.version = 0  # learner steps of the acting weights
        self._waiting: deque[tuple[int, dict[str, torch.Tensor]]] = deque()

    def follow(self, steps: int) -> None:
        """Called after updates with the learner's step count: moves the acting weights on when newer ones are old enough."""
        if self.learner_steps == 0:
            self.version = steps
            return
        self._waiting.append((steps, {name: tensor.clone() for name, tensor in self.newest.state_dict().items()}))
        due = None
        while self._waiting and self._waiting[0][0] <= steps - self.learner_steps:
            due = self._waiting.popleft()
        if due is not None:
            self.version = due[0]
            self.net.load_state_dict(due[1])

    def diagnostics(self) -> dict[str, float]:
        """Scalars to log: none."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The acting weights, and the newer ones that are queued to replace them."""
        waiting = [{"version": version, "weights": weights} for version, weights in self._waiting]
        acting = self.net.state_dict() if self.learner_steps else {}
        return {"version": self.version, "acting": acting, "waiting": waiting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; call it after the learner's net is restored, which stands in for missing weights."""
        self.version = state["version"]
        if self.learner_steps:
            self.net.load_state_dict(state.get("acting") or self.newest.state_dict())
            self._waiting = deque((entry["version"], entry["weights"]) for entry in state.get("waiting", ()))
