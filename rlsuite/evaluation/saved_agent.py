"""Saved agents: loaded from a run or a checkpoint, to act in any loop or to guide a search."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

from rlsuite.acting.act import act
from rlsuite.acting.board_agent import BoardAgent
from rlsuite.boardgames.games import make_game
from rlsuite.config.loader import check, refuse_vision
from rlsuite.config.schema import Config
from rlsuite.core import masks
from rlsuite.core.agent import Mode
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game
from rlsuite.core.spaces import batch_of, from_plain
from rlsuite.core.types import Step, to_tensors, translations, tree_map
from rlsuite.factories import make_agent, make_env
from rlsuite.nets.precision import Precision, in_bf16, inference
from rlsuite.runs import checkpoint, pretrained_agents, run_folder, trust
from rlsuite.search import Cached, Evaluate, Gumbel, Puct
from rlsuite.search.evaluators import PolicyValue


class Saved:
    """An agent loaded from a checkpoint: its config, its environment's spec, and its net with the saved weights."""

    def __init__(self, path: Path, device: str = "cpu", changes: dict[str, dict[str, Any]] | None = None):
        """`path`: a run folder, for its newest checkpoint, a checkpoint folder, or `pretrained:NAME`.

        `changes`: section -> key -> value, to replace in the saved config; if a value switches something off, the settings that
        depend on it return to their defaults. UsageError or CheckpointError for a folder that is neither, for a damaged checkpoint,
        and for one whose weights do not fit the net.
        """
        self.path = checkpoint.find(pretrained_agents.located(path))
        saved = checkpoint.load(self.path, weights_only=True)
        self.agent_steps = saved.agent_steps
        data: Any = saved.metadata
        sections: dict[str, Any] = {}
        if isinstance(data, dict) and isinstance(data.get("config"), dict):
            sections = data["config"]
        refuse_vision(sections)
        self.spec = run_folder.spec_in(saved)
        for section, values in (changes or {}).items():
            for key, value in values.items():
                if not isinstance(part := sections.get(section), dict) or key not in part:
                    known = f" (known: {', '.join(part)})" if isinstance(part, dict) else ""
                    raise UsageError(f"{self.path} has no {section}.{key}{known}")
                part[key] = value
        overridden = {f"{section}.{key}" for section, values in (changes or {}).items() for key in values}
        trust.admit(sections, path, saved.own, overridden, self.spec.game)
        trust.tell_changes(data.get("files"), sections, path)
        self.config: Config = check(sections, overridden, str(path), saved=True)
        self.agent = make_agent(self.config, self.spec)
        if device == "auto":  # the device that it was trained on
            device = "cuda" if torch.cuda.is_available() and self.config.run.device != "cpu" else "cpu"
        self.device = torch.device(device)
        if not saved.own:  # a damaged or hostile config may ask for a net of any size: built on the meta device first
            with torch.device("meta"):
                checkpoint.check_weights(self.agent.make_net(), saved.weights, str(self.path))
        net = self.agent.make_net().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        checkpoint.load_weights_into(net, saved.weights, str(self.path))
        self.bf16 = in_bf16(self.config.learner.precision, self.device)
        self.net = Precision(net.requires_grad_(False), self.bf16).net


class LoadedAgent:
    """A saved agent for your own loop, on NumPy arrays. If it plays a board game, it can also guide `rlsuite.search`."""

    def __init__(self, saved: Saved, seed: int = 0):
        self.saved = saved
        self._mode = Mode(explore=False, agent_steps=0, rng=torch.Generator(saved.device).manual_seed(seed))
        self._observed, self._chosen = translations(saved.spec)
        plain = saved.spec.observation_space
        self._space: Space[Any] = Box(-np.inf, np.inf, saved.spec.observation_shape) if plain is None else from_plain(plain)

    def make_env(self, num_envs: int = 1) -> Any:
        """A vector environment of `num_envs` environments like those that it was trained in (`env.*` of its config)."""
        return make_env(self.saved.config, num_envs)

    def initial_state(self, batch: int) -> Any:
        """The recurrent state of B = `batch` new episodes, to pass to the first `act`; () for a feed-forward net."""
        return tree_map(lambda leaf: leaf.to(self.saved.device), self.saved.agent.initial_state(batch))

    def act(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: Any = (),
        first: NDArray[np.bool_] | None = None,
        info: dict[str, NDArray[Any]] | None = None,
        reward: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], Any]:
        """Returns the actions [B,...] without exploration, as the environment takes them, and the state to pass to the next call.

        `observation` [B,...]: as the environment returns it. `reward` [B]: the one that came with it, for agents with
        `net.last_action_reward`. `first` [B]: marks new episodes, for agents with a memory core. `info`: as the environment returns
        it, if the environment's metadata has `info_keys`: board games need it for the whole position, others for action masks.
        """
        spec = self.saved.spec
        if isinstance(observation, dict) and masks.KEY in observation:  # masks in a Dict, which our own vectors move to info
            info = {masks.KEY: observation[masks.KEY], **(info or {})}
        given = observation if isinstance(observation, dict) else np.asarray(observation)
        batch, info_keys = batch_of(given, self._space), spec.info_keys
        needed = [name for name in info_keys if name != masks.KEY or f"_{name}" not in (info or {})]  # some steps have no masks
        if missing := [name for name in needed if name not in (info or {})]:
            raise ValueError(f"act needs info[{missing[0]!r}] from the environment: pass info=info")
        extras = {name: info[name] for name in info_keys if name != masks.KEY} if info else {}
        if info is not None and masks.KEY in info_keys:
            extras[masks.KEY] = masks.read(info, spec, batch)
        false = np.zeros((1, batch), bool)
        if len(state) == 0 < len(self.saved.agent.initial_state(1)):
            raise ValueError("this agent has a memory: pass state=agent.initial_state(B) first, then the state that act returned")
        if reward is None and self.saved.config.net.last_action_reward:
            raise ValueError("this agent sees rewards (net.last_action_reward): pass reward=..., zeros for the first observation")
        step = Step(
            observation=self._observed.to_agent(given)[None],
            reward=np.zeros((1, batch), np.float32) if reward is None else np.asarray(reward, np.float32)[None],
            first=false if first is None else first[None],
            last=false,
            terminal=false,
            action=np.zeros((1, batch, *spec.action_shape), spec.action_dtype),
            extras={name: leaf[None] for name, leaf in extras.items()},
        )
        with inference(self.saved.device, self.saved.bf16):
            action, state, _ = act(self.saved.agent, self.saved.net, to_tensors(step, self.saved.device), state, self._mode)
        return self._chosen.to_env(action.cpu().numpy()), state

    def evaluator(self, game: Game) -> tuple[Evaluate, Puct | Gumbel]:
        """The agent's position evaluator, with a cache, and its search method without noise. UsageError for another game."""
        return board_evaluator(self.saved, game)


def board_evaluator(saved: Saved, game: Game) -> tuple[Evaluate, Puct | Gumbel]:
    """A saved agent's position evaluator, with a cache, and its search method without noise. UsageError for another game.

    Go with another komi counts as the same game, since the net does not see the komi; with `net.any_size`, so do other sizes.
    """
    if saved.spec.game is None or not _same_board(make_game(saved.spec.game), game, saved.config.net.any_size):
        raise UsageError(f"{saved.path} plays {saved.spec.game or saved.config.env.id}, not {game.name}")
    agent = saved.agent
    assert isinstance(agent, BoardAgent)  # no other agent plays board games
    evaluate = agent.evaluator(saved.net, game)

    def autocast(rows: NDArray[np.int8], keys: NDArray[np.uint64]) -> PolicyValue:
        with inference(saved.device, saved.bf16):
            return evaluate(rows, keys)

    return Cached(autocast, game.num_actions, agent.config.cache_positions), agent.config.play()


def _same_board(a: Game, b: Game, any_size: bool) -> bool:
    """Whether the net of an agent that plays `a` fits `b`."""
    unseen = {"komi", "size"} if any_size else {"komi"}
    if not unseen & set(a.parameters):
        return a.name == b.name
    others = [{key: value for key, value in game.parameters.items() if key not in unseen} for game in (a, b)]
    return a.rules is b.rules and others[0] == others[1]
