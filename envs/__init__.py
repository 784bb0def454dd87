"""Environments by id: our own, and the modules that build Atari, board-game and Gymnasium environments."""

import importlib
import importlib.util
import os
import re
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

from rlsuite.core import registry
from rlsuite.core.errors import UsageError, unknown

ENVS = {"rlsuite/KeyDoor-v0": "rlsuite.envs.key_door", "rlsuite/Recall-v0": "rlsuite.envs.recall"}

_OF_MODULE = re.compile(r"^([^\W\d]\w*(?:\.\w+)*):(.+)$")  # module:Env-v0, for which Gymnasium imports the module
_ATARI = re.compile(r"^(?:ALE/)?([A-Z][A-Za-z0-9]*?)(?:-ram)?(NoFrameskip|Deterministic)?-v([045])$")


def atari_game(env_id: str) -> str | None:
    """The ROM of an Atari id: `ms_pacman` for `ALE/MsPacman-v5` or `MsPacmanNoFrameskip-v4`; None if no packaged ROM fits."""
    match = _ATARI.match(env_id)
    if match is None or "-ram" in env_id:
        return None
    modern = env_id.startswith("ALE/")
    if modern != (match[3] == "5") or (modern and match[2]):  # v5 has the prefix ALE/ and no suffixes; v0 and v4 have no prefix
        return None
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", match[1]).lower()
    from ale_py import roms

    return snake if _camel(snake) == match[1] and snake in roms.get_all_rom_ids() else None


def _camel(rom: str) -> str:
    return "".join(word.capitalize() for word in rom.split("_"))


def family(env_id: str) -> str | None:
    """The import path of the module that builds the environment `env_id`; None if the id is unknown."""
    if atari_game(env_id) is not None:
        return "rlsuite.envs.atari"
    if "+" in env_id and _mixture(env_id):
        return "rlsuite.envs.atari_mixture"
    if env_id.endswith(".py") or re.fullmatch(r"\w+(\.\w+)+", env_id) or env_id.split("(")[0].strip() in registry.games.names():
        return "rlsuite.envs.boards.env"
    import gymnasium

    if found := _OF_MODULE.match(env_id):
        module, name = found.groups()
        if atari_game(name) is not None:
            raise UsageError(f"env.id = {env_id}: Atari games need no module, use {name}")
        import_registering(module, env_id)
        if name not in gymnasium.registry:
            raise unknown(f"environment of {module}", name, gymnasium.registry)
        return "rlsuite.envs.classic"
    return "rlsuite.envs.classic" if env_id in gymnasium.registry else None


def _mixture(env_id: str) -> bool:
    """Whether the id names several Atari games, joined by "+". UsageError if only some of the names are Atari games."""
    games = [atari_game(part) for part in env_id.split("+")]
    if not any(games):
        return False
    for part, game in zip(env_id.split("+"), games, strict=True):
        if game is None:
            raise unknown("Atari game in env.id", part, [name for name in known_ids() if name.startswith("ALE/")])
    if len(set(games)) < len(games):
        raise UsageError(f"env.id = {env_id} names a game twice")
    return True


def import_registering(module: str, env_id: str) -> None:
    """Imports the module of `module:Env-v0`, which registers the environment with Gymnasium. UsageError if it cannot be imported.

    Modules in the current folder are found, as with `python -m`.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with registry.third_party(f"env.id = {env_id}: import {module}"):
        importlib.import_module(module)


def known_ids() -> list[str]:
    """Sorted ids of the Atari and Gymnasium environments and names of the board games, without third-party ones."""
    import gymnasium
    from ale_py import roms

    atari = [f"ALE/{_camel(rom)}-v5" for rom in roms.get_all_rom_ids()]
    kinds = (
        "gymnasium.envs.classic_control",
        "gymnasium.envs.toy_text",
        "gymnasium.envs.box2d",
        "gymnasium.envs.mujoco",
    )
    ours = [spec.id for spec in gymnasium.registry.values() if str(spec.entry_point).startswith(kinds)]
    return sorted([env_id for env_id in atari if atari_game(env_id)] + ours + registry.games.names())


def register_with_gymnasium() -> None:
    """Registers our ids with Gymnasium: now if it is imported, else on its import. Importing it here would slow down `--help`."""
    if "gymnasium" in sys.modules:
        importlib.import_module("rlsuite.envs.gym_ids")
    else:
        sys.meta_path.insert(0, _OnceImported())


class _OnceImported(MetaPathFinder):
    """An import hook that registers our ids right after Gymnasium has been imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Gymnasium's spec, with our registration after its execution; None for any other module."""
        if name != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: Any) -> None:
                execute(module)
                importlib.import_module("rlsuite.envs.gym_ids")

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
