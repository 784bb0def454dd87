"""Observations from an agent's own games, to compare an exported net with the agent. Shapes: B batch, A actions."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rlsuite.boardgames.games import make_game
from rlsuite.core import masks
from rlsuite.core.types import to_tensors, translations
from rlsuite.evaluation.export.acting_net import ActingNet
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import make_env

BATCH = 8
Inputs = tuple[Tensor, ...]


def own_games(saved: Saved, net: ActingNet, steps: int, seed: int) -> Iterator[Inputs]:
    """Yields the net's inputs [B,...], as in `net.example`, at `steps` steps of B games: observations and recurrent states."""
    yield from (_board(saved, net, steps, seed) if net.board else _environment(saved, net, steps, seed))


def _environment(saved: Saved, net: ActingNet, steps: int, seed: int) -> Iterator[Inputs]:
    """Inputs from games in the agent's environment. One action in twenty is random; most games would otherwise be the same."""
    env, rng = make_env(saved.config, BATCH), np.random.default_rng(seed)
    observed, chosen = translations(saved.spec)
    try:
        observation, info = env.reset(seed=seed)
        values = {port.name: tensor for port, tensor in zip(net.inputs, net.example(BATCH), strict=True)}
        first, ended, reward = np.ones(BATCH, bool), np.zeros(BATCH, bool), np.zeros(BATCH, np.float32)
        for _ in range(steps):
            values["observation"] = to_tensors(observed.to_agent(observation), torch.device("cpu"))
            now = {"first": torch.from_numpy(first), "reward": torch.from_numpy(np.asarray(reward, np.float32))}
            if net.masked:
                now[masks.KEY] = torch.from_numpy(masks.read(info, saved.spec, BATCH))
            values |= {name: tensor for name, tensor in now.items() if name in values}
            given = tuple(values[port.name] for port in net.inputs)
            yield given
            with torch.no_grad():
                scores, *state = net(*given)
            action = scores if saved.spec.action_shape else scores.argmax(-1)
            if not saved.spec.action_shape:
                drawn = rng.random(BATCH) < 0.05
                legal = now[masks.KEY].float() if net.masked else torch.ones(BATCH, saved.spec.num_actions)
                action = torch.where(torch.from_numpy(drawn), torch.multinomial(legal, 1)[:, 0], action)
            values |= {f"state_{i}": leaf for i, leaf in enumerate(state)}
            if "last_action" in values:
                values["last_action"] = action
            observation, reward, terminated, truncated, info = env.step(chosen.to_env(action.numpy()))
            first, ended = ended, terminated | truncated  # the step after an end is a reset
    finally:
        env.close()


def _board(saved: Saved, net: ActingNet, steps: int, seed: int) -> Iterator[Inputs]:
    """Inputs from games of the policy against itself, in which one move in five is random."""
    assert saved.spec.game is not None
    game, rng = make_game(saved.spec.game), np.random.default_rng(seed)
    states = [game.new_state() for _ in range(BATCH)]
    for _ in range(steps):
        given = (torch.from_numpy(np.stack([state.observation() for state in states])),)
        yield given
        with torch.no_grad():
            logits = net(*given)[0].numpy()  # [B,A]
        for i, state in enumerate(states):
            legal = np.asarray(state.legal_actions())
            action = int(rng.choice(legal)) if rng.random() < 0.2 else int(legal[logits[i, legal].argmax()])
            after = state.apply(action)
            states[i] = game.new_state() if after.is_terminal() else after
