"""Videos of a saved agent playing: MP4 (H.264), encoded by the ffmpeg in imageio-ffmpeg's wheel."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from rlsuite.acting.collector import Collector
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.files import replacing
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.factories import make_env

LONGEST = 20_000  # maximum agent steps, so that a game that never ends does not fill the disk


def record(saved: Saved, folder: Path, seed: int, tag: str = "") -> Path:
    """Records one whole game as `<folder>/<env>-step_N-seed_S<tag>.mp4`. UsageError for an environment that cannot be drawn."""
    target = folder / f"{saved.config.env.id.replace('/', '-')}-step_{saved.agent_steps}-seed_{seed}{tag}.mp4"
    frames = _frames(saved, seed)
    first = next(frames)
    height, width = first.shape[:2]
    scale = max(1, round(420 / height))
    with replacing(target) as beside:
        writer = imageio_ffmpeg.write_frames(
            str(beside), (width * scale, height * scale), fps=_fps(saved), macro_block_size=2, quality=7, ffmpeg_log_level="error"
        )
        writer.send(None)
        for frame in chain([first], frames):
            writer.send(np.ascontiguousarray(frame.repeat(scale, 0).repeat(scale, 1)))
        writer.close()
    return target


def _frames(saved: Saved, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames [H,W,3] u8 of the first game, one for each agent step."""
    module = registry.envs.get(saved.config.env.id)
    twin = module.ColourTwin(saved.config.env, num_envs=1) if hasattr(module, "ColourTwin") else None
    env = make_env(saved.config, 1, render=twin is None)
    if twin is None and getattr(env, "render_mode", None) != "rgb_array":
        raise UsageError(f"{saved.config.env.id} cannot be drawn: leave --video out")
    player = Collector(env, saved.agent, saved.net, seed=seed, explore=False, device=saved.device, bf16=saved.bf16)
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
    except Exception as error:  # pygame missing, no display, ...: the renderer's message says which
        raise UsageError(f"this environment cannot be drawn: {error}") from error


def _fps(saved: Saved) -> float:
    frames = saved.spec.frames_per_step
    return 60 / frames if frames > 1 else 30
