"""Our games keep the contract of a game, and every breach of it is named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlsuite import register_game
from rlsuite.boardgames.games import make_game
from rlsuite.core.errors import UsageError
from rlsuite.core.game import Game, Presentation
from rlsuite.envs.boards.check import BrokenContract, check_game

NAMES = ["tic_tac_toe", "connect_four", "othello", "othello(size=6)", "gomoku(size=8)", "hex(size=6)", "go(size=5)", "go(size=7)"]
GAME = make_game("tic_tac_toe")
RULES = GAME.rules


@pytest.mark.parametrize("name", NAMES)
def test_our_games_keep_the_contract(name: str) -> None:
    facts = check_game(make_game(name), games=40)
    assert facts["games"] == 40
    assert 0 < facts["first_player_wins"] < 1
    assert facts["longest"] <= make_game(name).max_moves


def broken(**functions: Any) -> Game:
    return replace(GAME, rules=RULES._replace(**functions))


def write_in_legal(row: Any, actions: Any) -> int:
    row[7] = 1
    return RULES.legal(row, actions)


def falling(row: Any, actions: Any) -> int:
    count = RULES.legal(row, actions)
    actions[:count] = actions[:count][::-1].copy()
    return count


def half_encoded(row: Any, planes: Any) -> None:
    RULES.encode(row, scratch := np.empty_like(planes))
    planes[0] = scratch[0]


def random_play(row: Any, action: int, rng: Any = np.random.default_rng(0)) -> None:  # noqa: B008
    RULES.play(row, action)
    row[7] = rng.integers(100)


def lazy_hash(row: Any) -> Any:
    return np.uint64(row[4])  # the number of stones


def never_over(row: Any) -> tuple[bool, float]:
    return False, 0.0


def too_much(row: Any) -> tuple[bool, float]:
    over, value = RULES.outcome(row)
    return over, 2 * value


@pytest.mark.parametrize(
    ("game", "breach"),
    [
        (broken(legal=write_in_legal), "legal writes to the row"),
        (broken(legal=falling), "not increasing actions"),
        (broken(encode=half_encoded), "does not write all elements of the planes"),
        (broken(play=random_play), "play gives different rows"),
        (broken(hash=lazy_hash), "the same number"),
        (broken(outcome=never_over), "outcome says over = False, but legal gives 0 actions"),
        (broken(outcome=too_much), "outside"),
        (broken(player=lambda row: 2), "players are 0 and 1"),
        (replace(GAME, has_draws=False), "a draw in a game whose has_draws is False"),
        (replace(GAME, max_moves=5), "goes on after max_moves = 5"),
        (replace(GAME, action_maps=GAME.action_maps[:, ::-1]), "must be the identity"),
        (replace(GAME, action_maps=np.repeat(GAME.action_maps[:1], 8, 0)), "do not agree"),
        (replace(GAME, cell_maps=GAME.cell_maps[:4]), "equally many rows"),
        (replace(GAME, cell_maps=GAME.cell_maps * 0), "is not a permutation"),
        (replace(GAME, start=GAME.start[:9]), "a multiple of 8"),
        (replace(GAME, neighbours=((0, 1),)), "has its reverse"),
        (replace(GAME, neighbours=((0, 1), (0, -1))), "a symmetry turns neighbours into cells that are none"),
        (replace(GAME, presentation=Presentation(board="chess")), r"needs presentation\.uci"),
        (replace(make_game("connect_four"), presentation=Presentation(sgf=99)), "the board is not square"),
        (replace(GAME, parse=lambda text: GAME.new_state().row), r"parse\(board_text\(row\)\)"),
        (replace(GAME, set_player=lambda row, player: None), "does not make the other player the one to move"),
        (replace(GAME, set_player=lambda row, player: row.fill(player)), "changes what the player to move sees"),
    ],
)
def test_a_breach_is_named(game: Game, breach: str) -> None:
    with pytest.raises(BrokenContract, match=breach):
        check_game(game, games=60)


def test_the_guide_s_game_is_short_and_keeps_the_contract(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "own-game.md").read_text()
    code, shown, setter = (block.split("```")[0] for block in guide.split("```python\n")[1:])
    assert len(code.splitlines()) < 80
    (tmp_path / "col.py").write_text(code)
    game = make_game(str(tmp_path / "col.py"))
    assert check_game(game, games=50)["longest"] <= 25
    exec(shown, names := dict[str, Any]())
    presented = replace(game, presentation=names["PRESENTATION"])
    assert check_game(presented, games=5)
    assert (presented.presentation.sides, presented.action_text(24)) == (("Blue", "Red"), "e5")
    exec(setter, names)
    two_sided = replace(game, set_player=names["set_player"])
    assert check_game(two_sided, games=5)
    assert (
        two_sided.planes(game.new_state().apply(7).row, 0)[0].sum() == 1
    )  # their own stone first, though the other one is to move
    register_game("col", lambda: game)
    assert make_game("col").new_state().legal_actions() == list(range(25))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "does not exist"),
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("x = 1", r"has no function make\(\)"),
        ("def make(): return 3", "returned a int, not a Game"),
    ],
)
def test_a_file_that_is_no_game_is_refused(text: str | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=reason):
        make_game(str(file))


def test_a_game_is_a_name_or_a_module() -> None:
    assert make_game("hex(size=5)").name == "hex(size=5)"
    with pytest.raises(UsageError, match="unknown game 'hxe'; did you mean hex"):
        make_game("hxe")
    with pytest.raises(UsageError, match="cannot be loaded"):
        make_game("no.such.module")
