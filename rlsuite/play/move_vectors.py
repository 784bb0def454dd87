"""Vectors of a game's moves, learned from recorded games, and each move's nearest neighbours, as a table and on the board.

    game = make_game("go(size=7)")
    found = of_records(game_records.read_folder(Path("games"), game), game)
    neighbours(found.vectors, 0, 5)  # of the move in the corner

Shapes: A actions, D numbers a vector.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlsuite.boardgames.record import GameRecord
from rlsuite.core.errors import UsageError, unknown
from rlsuite.core.files import replacing
from rlsuite.core.game import Game
from rlsuite.learning.skip_gram import Learned, Pairs, learn


def of_records(
    records: Sequence[GameRecord],
    game: Game,
    *,
    width: int = 16,
    window: int = 4,
    negatives: int = 5,
    passes: int = 10,
    seed: int = 0,
) -> Learned:
    """Learns vectors [A,`width`] of the moves of both players, see `rlsuite.learning.skip_gram`. UsageError without any moves."""
    texts = [record.actions for record in records]
    return learn(Pairs(texts, game.action_maps, window, negatives, seed), width, passes, seed)


def similarities(vectors: NDArray[np.float32], action: int) -> NDArray[np.float32]:
    """Cosine similarities [A] between an action's vector and all vectors, after their mean has been subtracted from each.

    The common part of all vectors only says that a pair is rarer than noise (Levy & Goldberg 2014: v·v' is the pair's PMI less
    log K).
    """
    vectors = vectors - vectors.mean(0)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(unit @ unit[action], np.float32)


def neighbours(vectors: NDArray[np.float32], action: int, count: int) -> list[tuple[int, float]]:
    """The `count` actions that are most like one, with their cosines, the nearest first."""
    cosines = similarities(vectors, action)
    cosines[action] = -np.inf
    order = np.argsort(-cosines, kind="stable")[:count]
    return [(int(other), float(cosines[other])) for other in order if other != action]


def actions_of(game: Game, names: str | None) -> list[int]:
    """The actions of comma-separated names; None: the first cell, the one in the middle of its side, and the central one.

    UsageError for an unknown name.
    """
    if names is None:
        _, height, width = game.observation_shape
        cells = [0, width // 2, height // 2 * width + width // 2]
        return [action for action in dict.fromkeys(cells) if action < game.num_actions]
    known = {game.action_text(action).lower(): action for action in range(game.num_actions)}
    found = []
    for name in names.split(","):
        if name.strip().lower() not in known:
            raise unknown(f"move of {game.name}", name.strip(), known)
        found.append(known[name.strip().lower()])
    return found


def places(game: Game) -> NDArray[np.float64]:
    """The position (across, down) [A,2] of each action in a picture: its cell or column, shifted with the rows in Hex.

    A pass is below the board. UsageError for a game whose actions are neither cells nor columns.
    """
    _, height, width = game.observation_shape
    actions = np.arange(game.num_actions)
    if game.presentation.board == "columns":
        return np.stack([actions, np.zeros(len(actions))], 1).astype(float)
    if game.num_actions - height * width not in (0, 1):
        raise UsageError(f"the moves of {game.name} are not its cells, so there is no picture of them: leave --picture out")
    row, column = np.divmod(actions.astype(float), width)
    row[height * width :] += 0.3
    return np.stack([column + (row / 2 if game.presentation.board == "hexes" else 0), row], 1)


def draw(vectors: NDArray[np.float32], game: Game, actions: Sequence[int], count: int, out: Path) -> None:
    """Draws a PNG with a board for each of the `actions`: the similarity of all other moves, and the order of its neighbours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spots = places(game)  # [A,2]
    figure = Figure(figsize=(4.2 * len(actions) + 0.8, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    marker, size = ("h", 0.72) if game.presentation.board == "hexes" else ("s", 0.62)
    area = (size * 300 / (np.ptp(spots, axis=0).max() + 1)) ** 2
    shown = None
    for axes, action in zip(np.atleast_1d(figure.subplots(1, len(actions))), actions, strict=True):
        cosines = similarities(vectors, action)
        shown = axes.scatter(*spots.T, c=cosines, s=area, marker=marker, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="0.6")
        axes.annotate("x", spots[action], ha="center", va="center", color="white", weight="bold")
        for rank, (other, _) in enumerate(neighbours(vectors, action, count), 1):
            axes.annotate(str(rank), spots[other], ha="center", va="center", fontsize=9)
        axes.set(title=f"neighbours of {game.action_text(action)}", aspect="equal", xticks=[], yticks=[])
        axes.margins(0.12)
        axes.invert_yaxis()
        axes.set_frame_on(False)
    figure.colorbar(shown, ax=figure.axes, label="cosine", shrink=0.7)  # type: ignore[arg-type]
    figure.suptitle(game.name, fontsize=10)
    with replacing(out) as beside:
        figure.savefig(beside, format="png")
