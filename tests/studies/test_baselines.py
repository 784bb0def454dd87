"""Baselines: the shipped tables, tables of one's own, and lists of games."""

from pathlib import Path

import pytest

from rlsuite.core.errors import UsageError
from rlsuite.studies import baselines


def test_shipped_tables_agree_on_human_scores() -> None:
    """Two sets circulate (Assault 742 or 1,496): ours are the former."""
    small, large = baselines.load("atari100k"), baselines.load("atari57")
    assert (len(small.human), len(large.human)) == (26, 57)
    assert small.human["assault"] == 742.0
    assert {game: large.human[game] for game in small.human} == small.human
    assert small.normalise("pong", -20.7) == 0.0
    assert small.normalise("pong", 14.6) == 1.0


def test_columns_of_another_regime_are_left_out() -> None:
    table = baselines.load("atari57")
    assert "rainbow_noop" in table.columns
    assert len(table.columns["rainbow_noop"]) == 54
    assert "rainbow_humanstart" in table.left_out
    assert "rainbow_humanstart" not in table.columns


@pytest.mark.parametrize(("name", "count"), [("atari100k", 26), ("atari57", 57), ("atari5", 5)])
def test_lists_of_games_are_ids_with_roms(name: str, count: int) -> None:
    games = baselines.games(name)
    assert len(games) == len(set(games)) == count
    assert all(game.startswith("ALE/") for game in games)


def test_names_of_games_agree_however_they_are_written() -> None:
    names = ["ALE/UpNDown-v5", "UpNDown", "up_n_down", "UpNDownNoFrameskip-v4"]
    assert {baselines.game_key(name) for name in names} == {"up_n_down"}
    assert baselines.game_key("CartPole-v1") == "CartPole-v1"


def test_unknown_names_are_told() -> None:
    with pytest.raises(UsageError, match=r"unknown baseline 'atari100'; did you mean atari100k"):
        baselines.load("atari100")
    with pytest.raises(UsageError, match=r"unknown list of games 'atari6'; did you mean atari5"):
        baselines.games("atari6")
    with pytest.raises(UsageError, match="ale-py has no ROM of ALE/Nothing-v5"):
        baselines.ale_id("nothing")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column game, random, human"),
        ("Game,random,human\npong,0,1\n", "has no column game.*did you mean these by Game"),
        ("game,random,human,a,a\npong,0,1,1,1\n", "has the column a twice"),
        ("game,random,human,a\npong,0,1\n", r"row 1 \(pong\): 3 values for 4 columns"),
        ("game,random,human,a\npong,0,1,much\n", "a of pong: 'much' is not a number"),
        ("game,random,human,a\npong,0,1,nan\n", "a of pong: 'nan' is not a number"),
        ("game,random,human,a\npong,0,1,1\nALE/Pong-v5,0,1,1\n", "has the game pong twice"),
        ("game,random,human,a\npong,0,,1\n", "pong needs a random and a human score"),
        ("game,random,human,a\npong,1,1,1\n", "pong needs a random and a human score, and different ones"),
        ("game,random,human,a\n", "holds no games"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        baselines.load(str(path))


def test_a_file_that_is_missing_or_binary(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        baselines.load(str(tmp_path / "none.csv"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not a text file"):
        baselines.load(str(tmp_path / "binary.csv"))
