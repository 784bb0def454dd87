"""Probes of an agent's torso: linear probes of the game's variables in RAM, and saliency maps."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlsuite.core.errors import UsageError
from rlsuite.envs import atari_game
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.nets.precision import inference
from rlsuite.nets.torso import PixelTorso
from rlsuite.vision import draw
from rlsuite.vision.data.emulator import Frame, atari_player, played_frames
from rlsuite.vision.data.ram import variables


class Probe(NamedTuple):
    """The result of a probe: how well a variable can be predicted from the torso's features."""

    variable: str
    trained: float  # R² on frames that the probe was not fitted on
    random: float  # the same with an untrained torso
    spread: float  # standard deviation of the variable itself


def probe(run: Path, pictures: int, seed: int = 7) -> tuple[Saved, list[Probe], list[Frame]]:
    """Fits a ridge regression for each variable, on games that the agent plays; also returns the frames, for pictures.

    UsageError for a run that is not of an Atari game with known variables, or whose torso does not see pixels.
    """
    saved = atari_player(run)
    torso_of(saved.net)
    game = str(atari_game(saved.config.env.id))
    variables(game, np.zeros(128, np.uint8))
    played = list(played_frames(saved, pictures, seed))
    true = [variables(game, frame.ram) for frame in played]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = saved.agent.make_net().to(saved.device)
    known, guessed = features(saved.net, played, saved.device), features(fresh, played, saved.device)
    half = len(played) // 2
    found = []
    for name in true[0]:
        y = np.array([values[name] for values in true], np.float64)
        if y[:half].std() == 0 or y[half:].std() == 0:
            continue
        found.append(Probe(name, r_squared(known, y, half), r_squared(guessed, y, half), float(y.std())))
    return saved, found, played


def torso_of(net: nn.Module) -> PixelTorso:
    """The net's first torso of pixels. UsageError if there is none."""
    for module in net.modules():
        if isinstance(module, PixelTorso):
            return module
    raise UsageError("this agent's net has no torso that sees pixels")


def features(net: nn.Module, played: list[Frame], device: torch.device) -> NDArray[np.float64]:
    """The torso's features [N,D] of the frames; of more than 2,000 features, a fixed random selection."""
    torso = torso_of(net)
    half = next(torso.parameters()).dtype == torch.bfloat16
    out = []
    for at in range(0, len(played), 128):
        batch = torch.from_numpy(np.stack([frame.planes for frame in played[at : at + 128]])).to(device)
        with inference(device, half):
            out.append(torso(batch.unsqueeze(0))[0].float().cpu().numpy())
    found = np.concatenate(out).astype(np.float64)
    if found.shape[1] > 2000:
        found = found[:, np.random.default_rng(0).permutation(found.shape[1])[:2000]]
    return found


def r_squared(x: NDArray[np.float64], y: NDArray[np.float64], half: int) -> float:
    """R² of a ridge regression fitted on the first `half` rows, on the other rows; 1 is perfect, 0 as good as the mean."""
    mean, scale = x[:half].mean(0), x[:half].std(0) + 1e-6
    a, b = (x[:half] - mean) / scale, (x[half:] - mean) / scale
    centre = y[:half].mean()
    # The strength is chosen on a quarter of the first half, which is then used to fit as well.
    cut = half * 3 // 4
    strengths = [10.0**power for power in range(6)]
    scores = [_score(a[:cut], y[:cut] - centre, a[cut:half], y[cut:half] - centre, strength) for strength in strengths]
    strength = strengths[int(np.argmax(scores))]
    return _score(a, y[:half] - centre, b, y[half:] - centre, strength)


def _score(
    a: NDArray[np.float64], y: NDArray[np.float64], b: NDArray[np.float64], z: NDArray[np.float64], strength: float
) -> float:
    weights = np.linalg.solve(a.T @ a + strength * np.eye(a.shape[1]), a.T @ y)
    return float(1 - ((b @ weights - z) ** 2).sum() / max(((z - z.mean()) ** 2).sum(), 1e-12))


def saliency(saved: Saved, planes: NDArray[np.uint8], ground: NDArray[np.uint8], patch: int = 3) -> NDArray[np.float64]:
    """How much the features change when a patch of planes [S,H,W] is replaced by the usual `ground`: [H,W], 1 at most.

    Greydanus et al. 2018 blur the patch instead, but then the edges of static objects dominate.
    """
    torso = torso_of(saved.net)
    image = torch.from_numpy(planes).to(saved.device).float()
    usual = torch.from_numpy(ground).to(saved.device).float()
    height, width = planes.shape[1:]
    rows, columns = range(patch // 2, height, patch), range(patch // 2, width, patch)
    changed = [image]
    for y in rows:
        for x in columns:
            weight = _bump(height, width, y, x, patch).to(saved.device)
            changed.append(image * (1 - weight) + usual * weight)
    batch = torch.stack(changed).round().to(torch.uint8)
    half = next(torso.parameters()).dtype == torch.bfloat16
    with inference(saved.device, half):
        seen = torso(batch.unsqueeze(0))[0].float()
    moved = (seen[1:] - seen[0]).pow(2).sum(1).cpu().numpy().astype(np.float64)
    large = torch.from_numpy(moved.reshape(1, 1, len(rows), len(columns)))
    full: NDArray[np.float64] = nn.functional.interpolate(large, size=(height, width), mode="bilinear")[0, 0].numpy()
    found: NDArray[np.float64] = full / max(full.max(), 1e-12)
    return found


def _bump(height: int, width: int, y: int, x: int, size: int) -> Tensor:
    """A Gaussian bump [H,W]: 1 at (y, x), falling off over `size` pixels."""
    row, column = torch.arange(height) - y, torch.arange(width) - x
    return torch.exp(-(row[:, None] ** 2 + column[None] ** 2) / (2 * (size / 2) ** 2))


def draw_saliency(saved: Saved, played: list[Frame], path: Path, count: int = 6) -> None:
    """Writes a PNG of grey frames, red where the torso looks."""
    chosen = [played[index] for index in np.linspace(len(played) // 10, len(played) - 1, count).astype(int)]
    some = played[:: max(1, len(played) // 200)]
    ground = np.median(np.stack([frame.planes for frame in some]), axis=0).astype(np.uint8)
    pictures = []
    for frame in chosen:
        heat = saliency(saved, frame.planes, ground)[..., None]
        grey = draw.to_picture(frame.planes).astype(np.float64)
        painted = grey * (1 - 0.8 * heat) + heat * 0.8 * np.array([255.0, 40.0, 0.0])
        pictures.append(draw.scaled(painted.clip(0, 255).astype(np.uint8))[0])
    draw.save(draw.grid(pictures, 3), path)
