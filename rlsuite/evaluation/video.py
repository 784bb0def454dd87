"""Videos of a saved agent at play: MP4 (H.264) through the encoder that imageio-ffmpeg's wheel brings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from rlsuite.acting.collector import Collector
from rlsuite.core import registry
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import make_env

LONGEST = 20_000  # agent steps; an agent that never ends its game must not fill the disk


def record(saved: Saved, folder: Path, seed: int) -> Path:
    """One whole game -> `<folder>/<env>-step_N-seed_S.mp4`. UsageError for an environment that has no picture."""
    name = f"{saved.config.env.id.replace('/', '-')}-step_{saved.agent_steps}-seed_{seed}.mp4"
    target, beside = folder / name, folder / f".{name}.part.mp4"
    frames = _frames(saved, seed)
    first = next(frames)
    height, width = first.shape[:2]
    scale = max(1, round(420 / height))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writer = imageio_ffmpeg.write_frames(
            str(beside), (width * scale, height * scale), fps=_fps(saved), macro_block_size=2, quality=7, ffmpeg_log_level="error"
        )
        writer.send(None)
        for frame in _chain(first, frames):
            writer.send(np.ascontiguousarray(frame.repeat(scale, 0).repeat(scale, 1)))
        writer.close()
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise RlsuiteError(f"could not write {target}: {error.strerror or error}") from error
    return target


def _frames(saved: Saved, seed: int) -> Iterator[NDArray[np.uint8]]:
    """[H,W,3] u8, one an agent step, to the end of the first game."""
    module = registry.envs.get(saved.config.env.id)
    twin = module.ColourTwin(saved.config.env, num_envs=1) if hasattr(module, "ColourTwin") else None
    env = make_env(saved.config, 1, render=twin is None)
    if twin is None and getattr(env, "render_mode", None) != "rgb_array":
        raise UsageError(f"{saved.config.env.id} has no picture to record: leave --video out")
    bf16 = saved.config.learner.precision == "bf16"
    player = Collector(env, saved.agent, saved.net, seed=seed, explore=False, device=saved.device, bf16=bf16)
    yield twin.reset(seed)[0] if twin else _picture(env)
    for _ in range(LONGEST):
        step, episodes = player.tick(agent_steps=0)
        if episodes:
            break
        yield twin.step(step.action)[0] if twin else _picture(env)
    env.close()


def _picture(env: Any) -> NDArray[np.uint8]:
    try:
        return np.asarray(env.render()[0], np.uint8)
    except Exception as error:  # pygame missing, no display: whatever the renderer says, the user can read it
        raise UsageError(f"this environment cannot draw itself: {error}") from error


def _fps(saved: Saved) -> float:
    frames = saved.spec.frames_per_step
    return 60 / frames if frames > 1 else 30


def _chain(first: NDArray[np.uint8], rest: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    yield first
    yield from rest


def has_pictures(env_id: str, env: Any) -> bool:
    """Whether a game of this vector environment can be filmed."""
    return hasattr(registry.envs.get(env_id), "ColourTwin") or "rgb_array" in env.metadata.get("render_modes", ())
