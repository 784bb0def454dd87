"""Records demonstrations: whole episodes by a saved agent, a scripted policy, or a person at the keyboard.

Shapes: L environments.
"""

import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.acting.collector import Collector
from rlsuite.config.schema import EnvSection
from rlsuite.core import registry
from rlsuite.core.agent import Actor, Mode
from rlsuite.core.errors import RlsuiteError, UsageError, one_line
from rlsuite.core.types import State, Step, describe, part_of, translations, tree_zip
from rlsuite.evaluation.episodes import shares
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.replay.demonstrations import Demonstrations
from rlsuite.runs.progress import Counter

ScriptedPolicy = Callable[[Any, NDArray[Any]], NDArray[Any]]  # (vector env, observation [L,...]) -> actions [L]
NUM_ENVS = 8


class Scripted(Actor):
    """An actor that takes its actions from a scripted policy."""

    def __init__(self, policy: ScriptedPolicy, env: Any):
        self.policy, self.env = policy, env
        self.observed, self.chosen = translations(describe(env))

    def act(self, net: nn.Module, step: Step, state: State, mode: Mode) -> tuple[Tensor, State, dict[str, Tensor]]:
        """The policy's actions [L]. RlsuiteError with its traceback if it fails, UsageError if they do not fit the environment."""
        try:
            action = np.asarray(self.policy(self.env, self.observed.to_env(step.observation[0].numpy())))
        except Exception as error:
            failed = RlsuiteError(f"the policy failed: {one_line(error)}")
            own = error.__traceback__ and error.__traceback__.tb_next  # without this frame
            failed.details = "".join(traceback.format_exception(error.with_traceback(own)))
            raise failed from error
        space = self.env.single_action_space
        if action.shape != (self.env.num_envs, *space.shape):
            raise UsageError(
                f"the policy returned actions of shape {list(action.shape)} for {self.env.num_envs} environments of {space}"
            )
        if hasattr(space, "nvec") and action.dtype.kind not in "iu":
            raise UsageError(f"the policy returned {action.dtype} actions: those of {space} must be whole numbers")
        if hasattr(space, "n"):
            low, high = int(space.start), int(space.start + space.n) - 1
            if action.dtype.kind not in "iu" or not ((action >= low) & (action <= high)).all():
                raise UsageError(f"the policy returned {action.tolist()}: actions must be whole numbers from {low} to {high}")
        return torch.from_numpy(np.ascontiguousarray(self.chosen.to_agent(action))), state, {}


def from_agent(saved: Saved, episodes: int, seed: int) -> Demonstrations:
    """Demonstrations by a saved agent, which plays as in an evaluation."""
    env = _make(saved.config.env, min(episodes, NUM_ENVS))
    player = Collector(env, saved.agent, saved.net, seed=seed, explore=False, device=saved.device, bf16=saved.bf16)
    return _played(player, saved.config.env.id, episodes)


def from_policy(section: EnvSection, policy: ScriptedPolicy, episodes: int, seed: int, num_envs: int = NUM_ENVS) -> Demonstrations:
    """Demonstrations by a scripted policy in a config's environment."""
    env = _make(_without_masks(section), min(episodes, num_envs))
    return _played(Collector(env, Scripted(policy, env), nn.Identity(), seed=seed, explore=False), section.id, episodes)


def find_policy(name: str) -> ScriptedPolicy:
    """The policy called `package.module:function` or `file.py:function`. UsageError if there is none."""
    module, _, function = name.partition(":")
    if registry.file_of(name) is None and not all(part.isidentifier() for part in [*module.split("."), function]):
        raise UsageError(f"--policy {name}: write it as package.module:function, or as file.py:function")
    found: ScriptedPolicy
    if registry.file_of(name) is not None:
        found = registry.member(registry.load_file(module), function, module)
    else:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # also finds modules in the current folder, as `python -m` does
        try:
            found = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise UsageError(f"--policy {name} cannot be imported: {error}") from error
    if not callable(found):
        raise UsageError(f"--policy {name} must be a function, not {type(found).__name__}")
    return found


def _without_masks(section: EnvSection) -> EnvSection:
    """The same environment without action masks, since a policy or a person plays by the environment's own rules."""
    return section.model_copy(update={"action_masks": False}) if "action_masks" in type(section).model_fields else section


def _make(section: EnvSection, num_envs: int) -> Any:
    return registry.make_env(section, num_envs, threads=1)


def _played(player: Collector, env_id: str, episodes: int) -> Demonstrations:
    """Plays `episodes` whole episodes; after Ctrl-C, returns those that are finished.

    Every environment plays a fixed share of them, so that short episodes are not favoured.
    """
    share = shares(episodes, player.num_envs).tolist()
    running: list[list[Step]] = [[] for _ in share]
    done: list[Step] = []
    with Counter("episodes") as show:
        while any(share):
            try:
                record, _ = player.tick(agent_steps=0)
            except KeyboardInterrupt:  # finished episodes are kept
                if not done:
                    raise
                break
            show(len(done), episodes)
            record = player.compact(record)._replace(extras={})
            for env_index, left in enumerate(share):
                if not left:
                    continue
                running[env_index].append(part_of(record, env_index))
                if record.last[env_index]:
                    done.append(tree_zip(lambda *leaves: np.stack(leaves), *running[env_index]))
                    running[env_index] = []
                    share[env_index] -= 1
    steps: Step = tree_zip(lambda *leaves: np.concatenate(leaves), *done)
    steps.action[steps.last] = 0  # the environment never sees these actions
    return Demonstrations(env_id, describe(player.env), steps)


class Keyboard:
    """A policy that shows the game in a window and turns held keys into actions. Needs pygame and a display.

    `keys`: names of keys held together, such as `w` or `space` -> action. `idle`: the action with none held; None waits for a key.
    """

    def __init__(self, picture: Callable[[], NDArray[np.uint8]], keys: dict[frozenset[str], int], idle: int | None, fps: float):
        try:
            import pygame
        except ImportError as error:
            raise UsageError("--keyboard needs pygame (pip install pygame)") from error
        self.pygame, self.picture, self.keys, self.idle, self.fps = pygame, picture, keys, idle, fps
        try:
            pygame.display.init()  # no sound
            if pygame.display.get_driver() in ("offscreen", "dummy") and "SDL_VIDEODRIVER" not in os.environ:
                raise pygame.error("no display here")
            height, width = picture().shape[:2]
            self.scale = max(1, round(480 / height))
            self.window = pygame.display.set_mode((width * self.scale, height * self.scale))
        except pygame.error as error:
            raise UsageError(f"--keyboard cannot open a window: {error}") from error
        pygame.display.set_caption("rlsuite record: close the window to stop")

    def __call__(self, env: Any, observation: NDArray[Any]) -> NDArray[np.int64]:
        """Shows the game and returns the action [1] of the keys that are held. KeyboardInterrupt if the window is closed."""
        pygame = self.pygame
        frame = self.picture()
        surface = pygame.surfarray.make_surface(frame.swapaxes(0, 1).repeat(self.scale, 0).repeat(self.scale, 1))
        self.window.blit(surface, (0, 0))
        pygame.display.flip()
        due = time.monotonic() + 1 / self.fps
        pressed: set[str] = set()
        while True:
            for event in pygame.event.get():
                if event.type == pygame.QUIT:
                    raise KeyboardInterrupt
                if event.type == pygame.KEYDOWN:
                    pressed.add(pygame.key.name(event.key))
            held = pressed | {name for names in self.keys for name in names if pygame.key.get_pressed()[pygame.key.key_code(name)]}
            fitting = [names for names in self.keys if names <= held]
            if fitting and (self.idle is None or time.monotonic() >= due):
                return np.array([self.keys[max(fitting, key=len)]])
            if self.idle is not None and time.monotonic() >= due:
                return np.array([self.idle])
            time.sleep(0.005)


def from_keyboard(section: EnvSection, episodes: int, seed: int, fps: float) -> Demonstrations:
    """Demonstrations by a person. UsageError for an environment that defines no keys, and without pygame or a display."""
    module = registry.envs.get(section.id)
    if not hasattr(module, "keys"):
        raise UsageError(f"{section.id} defines no keys for --keyboard: use --policy or a saved agent")
    keys, idle = module.keys(section)
    twin = module.ColourTwin(section, 1) if hasattr(module, "ColourTwin") else None
    env = module.make(_without_masks(section), 1, threads=1, render=twin is None)
    frame = [twin.reset(seed)[0]] if twin is not None else []
    keyboard = Keyboard((lambda: frame[0]) if twin is not None else (lambda: np.asarray(env.render()[0])), keys, idle, fps)

    def policy(env: Any, observation: NDArray[Any]) -> NDArray[Any]:
        action = keyboard(env, observation)
        if twin is not None:
            frame[0] = twin.step(action)[0]
        return action

    return _played(Collector(env, Scripted(policy, env), nn.Identity(), seed=seed, explore=False), section.id, episodes)
