"""rlsuite: reinforcement-learning agents for Atari and board games, the same on a laptop and on a cluster.

import rlsuite
result = rlsuite.train("classic/dqn", {"seed": 1})
agent = rlsuite.load(result.run)
env = rlsuite.make_env("CartPole-v1", num_envs=4)
game = rlsuite.make_game("connect_four")
found = rlsuite.search(game, game.new_state().apply(3), "uniform", simulations=400)
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Torch's idle worker threads spin for milliseconds before they sleep, on cores that the emulators need: right after a net's forward
# pass, emulators on all cores took a third longer. With this they spin a tenth as long; libgomp reads it when torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

from rlsuite.agents import AGENTS
from rlsuite.core import caches, registry
from rlsuite.core.registry import register_agent, register_env, register_game, register_memory_core, register_torso
from rlsuite.envs import ENVS, register_with_gymnasium
from rlsuite.envs.boards import GAMES
from rlsuite.nets import MEMORY_CORES, TORSOS
from rlsuite.runs.trackers import TRACKERS
from rlsuite.version import __version__

caches.set_up()

# These tables hold import paths: nothing in them is imported before it is used.
registry.agents.ship(AGENTS)
registry.envs.ship(ENVS)
registry.envs.family, registry.envs.family_ids = "rlsuite.envs:family", "rlsuite.envs:known_ids"
registry.envs.adapter = "rlsuite.envs.classic:FromClass"
registry.games.ship(GAMES)
registry.torsos.ship(TORSOS)
registry.memory_cores.ship(MEMORY_CORES)
registry.trackers.ship(TRACKERS)

register_with_gymnasium()

__all__ = [
    "Callback",
    "__version__",
    "evaluate",
    "load",
    "make_env",
    "make_game",
    "register_agent",
    "register_env",
    "register_game",
    "register_memory_core",
    "register_torso",
    "report",
    "search",
    "sweep",
    "train",
]

if TYPE_CHECKING:
    from rlsuite.api import Callback, evaluate, load, make_env, make_game, report, sweep, train
    from rlsuite.search import search_one as search


def __getattr__(name: str) -> Any:
    """Imports the functions of `rlsuite.api` on first use (PEP 562), because torch takes a second to import."""
    if name == "search":  # a package that is also a function
        return importlib.import_module("rlsuite.search")
    if name in __all__:
        from rlsuite import api

        return getattr(api, name)
    raise AttributeError(f"module 'rlsuite' has no attribute {name!r}")
