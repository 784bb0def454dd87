"""A board as a graph: which cells are neighbours, and which edges are equivalent, for any size. Shapes: H rows, W columns."""

from typing import NamedTuple

from rlsuite.core.errors import UsageError
from rlsuite.core.game import ALL_AROUND, Game, Steps


class Lattice(NamedTuple):
    """A board as a graph whose nodes are the cells and the four sides: top, right, bottom and left.

    Each cell has an edge along each of the steps, to another cell or, at the border, to a side.
    """

    steps: Steps = ALL_AROUND
    kinds: tuple[int, ...] = (0, 0, 0, 0, 1, 1, 1, 1)  # of each step; symmetries of the game map steps to steps of the same kind
    sides: tuple[int, ...] = (0, 0, 0, 0)  # the kind of each side, likewise


def lattice_of(game: Game) -> Lattice:
    """The lattice of a game's board. UsageError if the game names no neighbours, or impossible ones."""
    steps, (_, height, width) = game.neighbours, game.observation_shape
    if not steps:
        raise UsageError(f"{game.name} does not say which cells are neighbours (Game.neighbours), which a graph net needs")
    near = all(step in ALL_AROUND and (-step[0], -step[1]) in steps for step in steps) and len(set(steps)) == len(steps)
    if not near:
        raise UsageError(
            f"{game.name}: neighbours = {steps}: each is at most a row and a column away, has its reverse, and comes once"
        )
    borders = [[(0, x) for x in range(width)], [(y, width - 1) for y in range(height)]]
    borders += [[(height - 1, x) for x in range(width)], [(y, 0) for y in range(height)]]
    places = [set(border) for border in borders]
    kinds, sides = list(range(len(steps))), list(range(4))
    for cells in game.cell_maps.tolist():
        source = {(y, x): divmod(cells[y * width + x], width) for y in range(height) for x in range(width)}
        for (y, x), (a, b) in source.items():
            for i, (dy, dx) in enumerate(steps):
                if (y + dy, x + dx) in source:
                    c, d = source[y + dy, x + dx]
                    if (c - a, d - b) not in steps:
                        raise UsageError(f"{game.name}: a symmetry turns neighbours into cells that are none (Game.neighbours)")
                    _join(kinds, i, steps.index((c - a, d - b)))
        for i, border in enumerate(borders):
            _join(sides, i, places.index({source[cell] for cell in border}))  # where neighbours stay so, sides become sides
    return Lattice(steps, _numbered(kinds), _numbered(sides))


def _join(kinds: list[int], a: int, b: int) -> None:
    """Merges the kinds of a and b into one."""
    old, new = kinds[a], kinds[b]
    kinds[:] = [new if kind == old else kind for kind in kinds]


def _numbered(kinds: list[int]) -> tuple[int, ...]:
    """The kinds renumbered from 0, in order of first appearance."""
    names = list(dict.fromkeys(kinds))
    return tuple(names.index(kind) for kind in kinds)
