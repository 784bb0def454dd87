"""Agents, environments and games by name: ours from one explicit dict each, a third party's from entry points or `register_*`."""

import importlib
from importlib.metadata import entry_points
from typing import Any

from rlsuite.errors import UsageError, unknown

_agents: dict[str, Any] = {}  # registered at run time: name -> class, or "module:Class"
_envs: dict[str, Any] = {}  # env id -> module (or object) with Config and make, or its import path
_games: dict[str, Any] = {}  # name -> function that makes the game, or its import path


def register_agent(name: str, agent: Any) -> None:
    """`agent`: a class with `Config` and `__init__(config, net, spec)`, or its import path "package.module:Class"."""
    _agents[name] = agent


def register_env(env_id: str, module: Any) -> None:
    """`module`: anything with `Config` and `make(config, lanes, threads, render)`, or its import path."""
    _envs[env_id] = module


def register_game(name: str, make: Any) -> None:
    """`make`: a function of the game's parameters that gives a `Game`, or its import path "package.module:function"."""
    _games[name] = make


def registered() -> dict[str, dict[str, Any]]:
    """What `register_*` has been told in this process: kind -> name -> told."""
    return {"agents": dict(_agents), "envs": dict(_envs), "games": dict(_games)}


def restore(tables: dict[str, dict[str, Any]]) -> None:
    """What `registered` gave elsewhere."""
    for table, told in ((_agents, tables["agents"]), (_envs, tables["envs"]), (_games, tables["games"])):
        table.update(told)


def game_names() -> list[str]:
    from rlsuite.envs.boards import GAMES

    return sorted({*GAMES, *_games, *(point.name for point in entry_points(group="rlsuite.games"))})


def game_maker(name: str) -> Any:
    """The function that makes the game; UsageError with the nearest names if there is none."""
    from rlsuite.envs.boards import GAMES

    table = {**{point.name: point.value for point in entry_points(group="rlsuite.games")}, **GAMES, **_games}
    if name not in table:
        raise unknown("game", name, game_names())
    return _load(table[name])


def agent_names() -> list[str]:
    from rlsuite.agents import AGENTS

    return sorted({*AGENTS, *_agents, *(point.name for point in entry_points(group="rlsuite.agents"))})


def agent_class(name: str) -> Any:
    """UsageError with the nearest names if there is none."""
    from rlsuite.agents import AGENTS

    table = {**{point.name: point.value for point in entry_points(group="rlsuite.agents")}, **AGENTS, **_agents}
    if name not in table:
        raise unknown("agent", name, agent_names())
    return _load(table[name])


def env_module(env_id: str) -> Any:
    """The family that an environment id belongs to; UsageError with the nearest ids if none does."""
    from rlsuite.envs import ENVS, family, known_ids

    table = {**{point.name: point.value for point in entry_points(group="rlsuite.envs")}, **ENVS, **_envs}
    if env_id in table:
        return _load(table[env_id])
    found = family(env_id)
    if found is None:
        raise unknown("env.id", env_id, {*known_ids(), *table})
    return _load(found)


def has_pictures(env_id: str, env: Any) -> bool:
    """Whether a game of this vector environment can be filmed."""
    return hasattr(env_module(env_id), "ColourTwin") or "rgb_array" in env.metadata.get("render_modes", ())


def env_ids() -> list[str]:
    from rlsuite.envs import ENVS, known_ids

    return sorted({*known_ids(), *ENVS, *_envs, *(point.name for point in entry_points(group="rlsuite.envs"))})


def _load(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    try:
        loaded = importlib.import_module(module)
        return getattr(loaded, attribute) if attribute else loaded
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{target} is registered but cannot be imported: {error}") from error
