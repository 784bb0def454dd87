"""Vectors of moves: neighbours, names, places on the board, and the command from records to a picture."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlsuite.boardgames import game_records
from rlsuite.boardgames.games import make_game
from rlsuite.cli import main
from rlsuite.core.errors import UsageError
from rlsuite.nets import action_embedding
from rlsuite.play.move_vectors import actions_of, neighbours, places, similarities


def test_neighbours_have_the_smallest_angles_once_the_mean_is_taken() -> None:
    vectors = np.array([[3, 4], [1, 4], [2, 6], [2, 2]], np.float32)  # around (2, 4): right, left, up, down
    np.testing.assert_allclose(similarities(vectors, 0), [1, -1, 0, 0], atol=1e-6)
    assert neighbours(vectors, 0, 2) == [(2, pytest.approx(0)), (3, pytest.approx(0))]
    assert [action for action, _ in neighbours(vectors, 0, 9)] == [2, 3, 1]


def test_moves_are_named_as_the_game_names_them() -> None:
    game = make_game("go(size=5)")
    assert actions_of(game, "A5, e1,pass") == [0, 24, 25]
    assert [game.action_text(action) for action in actions_of(game, None)] == ["a5", "c5", "c3"]
    with pytest.raises(UsageError, match="unknown move of go"):
        actions_of(game, "i9")


def test_places_are_those_of_the_board() -> None:
    assert places(make_game("hex(size=3)")).tolist()[:5] == [[0, 0], [1, 0], [2, 0], [0.5, 1], [1.5, 1]]
    assert places(make_game("othello(size=4)")).tolist()[-1] == [0, 4.3]  # the pass
    assert places(make_game("connect_four")).tolist() == [[column, 0] for column in range(7)]
    with pytest.raises(UsageError, match="are not its cells, so there is no picture"):
        places(replace(make_game("tic_tac_toe"), num_actions=12))


def rlsuite(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["rlsuite", *words])
    with pytest.raises(SystemExit) as done:
        main.main()
    return int(done.value.code or 0)


def test_the_command_writes_vectors_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    game, rng = make_game("othello(size=4)"), np.random.default_rng(0)
    for number in range(8):
        state, actions = game.new_state(), list[int]()
        while not state.is_terminal():
            actions.append(int(rng.choice(state.legal_actions())))
            state = state.apply(actions[-1])
        game_records.write(tmp_path / "games" / f"{number}.sgf", game, actions, ("a", "b"))
    out, picture = tmp_path / "moves.safetensors", tmp_path / "moves.png"
    command = ("embed", str(tmp_path / "games"), "--game", game.name, "--width", "4", "--count", "3")
    assert rlsuite(monkeypatch, *command, "--moves", "a1,b1", "--out", str(out), "--picture", str(picture)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("othello(size=4): 8 games, ")
    assert [line.split()[0] for line in lines[1:]] == ["a1", "b1", "vectors", "picture"]
    assert Image.open(picture).size[0] > 500
    found = action_embedding.read(out)
    assert found.game == game.name
    assert found.vectors.shape == (17, 4)
    assert rlsuite(monkeypatch, *command, "--moves", "a1", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["games"] == 8
    assert [name for name, _ in facts["neighbours"]["a1"]] == [
        game.action_text(action) for action, _ in neighbours(found.vectors, 0, 3)
    ]
    assert facts["loss"] < facts["untrained_loss"]
    assert rlsuite(monkeypatch, "embed", str(tmp_path / "games"), "--game", "hex") == 2
    assert "no record" in capsys.readouterr().err
