"""Our environments: id -> module, and the families that Gymnasium's and ALE's ids belong to."""

import re

from rlsuite.core import registry

ENVS = {"rlsuite/KeyDoor-v0": "rlsuite.envs.key_door", "rlsuite/Recall-v0": "rlsuite.envs.recall"}

_ATARI = re.compile(r"^(?:ALE/)?([A-Z][A-Za-z0-9]*?)(?:-ram)?(NoFrameskip|Deterministic)?-v([045])$")


def atari_game(env_id: str) -> str | None:
    """`ALE/MsPacman-v5`, `MsPacmanNoFrameskip-v4` -> `ms_pacman`; None for anything that is no packaged ROM."""
    match = _ATARI.match(env_id)
    if match is None or "-ram" in env_id:
        return None
    modern = env_id.startswith("ALE/")
    if modern != (match[3] == "5") or (modern and match[2]):  # v5 lives under ALE/, without suffixes; v0 and v4 do not
        return None
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", match[1]).lower()
    from ale_py import roms

    return snake if _camel(snake) == match[1] and snake in roms.get_all_rom_ids() else None


def _camel(rom: str) -> str:
    return "".join(word.capitalize() for word in rom.split("_"))


def family(env_id: str) -> str | None:
    """The module that builds `env_id`, or None."""
    if atari_game(env_id) is not None:
        return "rlsuite.envs.atari"
    if env_id.endswith(".py") or re.fullmatch(r"\w+(\.\w+)+", env_id) or env_id.split("(")[0].strip() in registry.games.names():
        return "rlsuite.envs.boards.env"
    import gymnasium

    return "rlsuite.envs.classic" if env_id in gymnasium.registry else None


def known_ids() -> list[str]:
    """What `rlsuite list envs` prints, third parties apart."""
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
