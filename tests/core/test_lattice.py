"""The graph of a board: which steps and which sides a game's symmetries make alike, and what cannot be a graph."""

from dataclasses import replace

import pytest

from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.core.lattice import lattice_of


@pytest.mark.parametrize(
    ("name", "kinds", "sides"),
    [
        ("go(size=5)", (0, 0, 0, 0), (0, 0, 0, 0)),  # all turns and reflections
        ("gomoku(size=5,connect=4)", (0, 0, 0, 0, 1, 1, 1, 1), (0, 0, 0, 0)),  # orthogonal and diagonal steps
        (
            "hex(size=5)",
            (0, 0, 1, 1, 2, 2),
            (0, 1, 0, 1),
        ),  # half turns only: top and bottom are one player's, left and right the other's
        ("othello(size=6)", (0, 0, 1, 2, 0, 0, 1, 2), (0, 0, 0, 0)),  # half turns and diagonals, by the first four discs
        ("connect_four", (0, 1, 0, 2, 3, 3, 4, 4), (0, 1, 2, 1)),  # mirrored left to right; stones fall
        ("tic_tac_toe", (0, 0, 0, 0, 1, 1, 1, 1), (0, 0, 0, 0)),
    ],
)
def test_steps_and_sides_are_alike_that_symmetries_turn_into_each_other(
    name: str, kinds: tuple[int, ...], sides: tuple[int, ...]
) -> None:
    lattice = lattice_of(make_game(name))
    assert lattice.steps == make_game(name).neighbours
    assert (lattice.kinds, lattice.sides) == (kinds, sides)


@pytest.mark.parametrize("name", ["go", "hex", "gomoku"])
def test_a_lattice_is_the_same_for_every_size(name: str) -> None:
    found = [lattice_of(make_game(f"{name}(size={size})")) for size in (5, 6, 9)]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("neighbours", "message"),
    [
        ((), "does not say which cells are neighbours"),
        (((0, 2), (0, -2)), "at most a row and a column away"),
        (((0, 1),), "has its reverse"),
        (((0, 1), (0, -1), (0, 1)), "comes once"),
        (((0, 0),), "at most a row"),
        (((0, 1), (0, -1)), "a symmetry turns neighbours into cells that are none"),
    ],
)
def test_neighbours_that_cannot_be_are_refused(neighbours: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lattice_of(replace(make_game("go(size=5)"), neighbours=neighbours))
