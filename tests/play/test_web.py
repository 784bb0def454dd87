"""The page's server: what it plays and whom it refuses. The slow tests at the end use a browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rlsuite.boardgames.games import make_game
from rlsuite.play.players import BoardPlayer
from rlsuite.play.session import Session
from rlsuite.play.web import Table, make_app

HOST = {"Host": "127.0.0.1:8017"}


def client(
    game: str = "connect_four", player: str = "mcts(simulations=20)", side: int | None = 0, videos: Path | None = None
) -> TestClient:
    board = make_game(game)
    table = Table(Session(board, BoardPlayer(player, board)), side, videos)
    return TestClient(make_app(table, 8017), base_url="http://127.0.0.1:8017")


def post(it: TestClient, path: str, **body: Any) -> Any:
    answer = it.post(f"/api/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_page_comes_whole_and_from_here() -> None:
    it = client()
    page = it.get("/").text
    assert not re.search(r'(src|href)="(https?:)?//', page)
    for name in re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page):
        found = it.get(f"/{name}")
        assert found.status_code == 200
        assert "http://" not in found.text.replace("http://www.w3.org/2000/svg", "")
        assert found.headers["content-security-policy"].startswith("default-src 'self'")
    assert it.get("/../cli.py").status_code == 404
    assert it.get("/api/nothing").status_code == 404


def test_a_game_is_played_to_its_end() -> None:
    it = client()
    view = it.get("/api/state").json()
    assert view["mine"]
    assert view["board"]["clicks"][:7] == list(range(7))
    while not view["over"]:
        view = post(it, "move", action=view["legal"][0]["action"], ply=view["plies"])
        if not view["over"]:
            assert not view["mine"]
            view = post(it, "answer", ply=view["plies"])
            assert view["values"][-2] is not None or view["over"]
    assert view["points"] in (0, 0.5, 1)
    assert view["values"][-1] == 2 * view["points"] - 1
    assert it.get("/api/state?ply=2").json()["ply"] == 2
    assert it.get("/api/state?ply=zz").status_code == 200
    record = it.get("/api/record")
    assert "attachment" in record.headers["content-disposition"]
    moves = view["moves"]
    post(it, "new", side="both")
    assert post(it, "load", record=record.text)["moves"] == moves
    assert not post(it, "undo")["over"]


def test_a_record_from_another_position_is_loaded_and_what_was_left_out_is_told() -> None:
    it = client("go(size=5,komi=0.5)")
    view = post(it, "load", record="(;SZ[5]HA[2]AB[bb][dd];W[cc];B[];W[];B[aa])")
    assert view["notes"] == ["the moves after the end of the game are left out"]
    assert (view["plies"], view["text"].splitlines()[1]) == (3, ".x...")
    both = post(it, "load", record="(;SZ[5]KM[6.5];B[cc](;W[aa])(;W[bb]))")["notes"]
    assert both == ["only the main line is read, without the variations", "its komi is 6.5; here it is 0.5"]
    view = post(it, "load", record="(;SZ[5]HA[2]AB[bb][dd];W[cc];B[];W[];B[aa])")
    assert "AB[bb][dd]HA[2]PL[W]" in it.get("/api/record").text
    assert post(it, "load", record="(;SZ[5];B[cc])")["text"].splitlines()[:2] == [".....", "....."]
    view = post(it, "load", record="(;SZ[5]HA[2]AB[bb][dd]PL[W];W[cc];B[aa])")
    assert [line.replace(" ", "") for line in view["text"].splitlines()[:3]] == ["x....", ".x...", "..o.."]
    view = post(it, "new", side="both")
    assert (view["notes"], set(view["board"]["cells"])) == ([], {0})
    view = post(it, "move", action=view["legal"][0]["action"], ply=0)
    assert view["text"].startswith("x")  # Black begins, though the record began with White


def test_the_board_carries_the_names_of_its_points() -> None:
    for game, columns, rows in [
        ("go(size=9)", "abcdefghj", "987654321"),
        ("gomoku(size=9)", "abcdefghj", "987654321"),
        ("othello", "abcdefgh", "12345678"),
        ("hex(size=9)", "abcdefghi", "123456789"),
    ]:
        view = client(game, "random", None).get("/api/state").json()
        assert ("".join(view["board"]["columns"]), "".join(view["board"]["rows"])) == (columns, rows)
        for one in view["legal"][:3]:
            if one["text"] != "pass":
                row, column = divmod(one["action"], len(columns))
                assert one["text"] == columns[column] + rows[row]
    assert client("connect_four", "random").get("/api/state").json()["board"]["rows"] == [""] * 6


def test_it_says_that_the_first_search_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlsuite.play.session.compiled", lambda *_: False)
    assert (
        client("hex(size=3)").get("/api/state").json()["waits"] == "compiling the search for hex(size=3), which takes some seconds"
    )
    monkeypatch.setattr("rlsuite.play.session.compiled", lambda *_: True)
    assert client("hex(size=3)").get("/api/state").json()["waits"] == ""
    assert client("hex(size=3)", "random").get("/api/state").json()["waits"] == ""


def test_hints_undo_and_sides() -> None:
    it = client("hex(size=3)")
    hint = post(it, "think")["hint"]
    assert hint["variation"]
    assert sum(hint["policy"].values()) == pytest.approx(1, abs=0.05)
    view = post(it, "move", action=4, ply=0)
    assert view["hint"] is None
    view = post(it, "answer", ply=1)
    assert view["plies"] == 2
    assert post(it, "answer", ply=1)["plies"] == 2  # asked twice, answered once
    assert post(it, "undo")["plies"] == 0
    view = post(it, "new", side="1", simulations=5)
    assert not view["mine"]
    assert view["simulations"] == 5
    assert post(it, "answer", ply=0)["mine"]
    assert post(it, "resign")["points"] == 1.0
    view = post(it, "new", side="watch")
    while not view["over"]:
        view = post(it, "answer", ply=view["plies"])


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("move", {"action": 99, "ply": 0}, "illegal"),
        ("move", {"action": True, "ply": 0}, "number of an action"),
        ("move", {"action": 1, "ply": 3}, "has gone on"),
        ("answer", {"ply": 0}, "your move"),
        ("new", {"side": "left"}, "side 'left'"),
        ("new", {"simulations": 1e9}, "simulations"),
        ("undo", {}, "no move to take back"),
        ("load", {"record": "nonsense"}, "the record is not a game record"),
        ("load", {}, "no record"),
        ("load", {"record": "(;SZ[5]PB[\ufffd])"}, "the record is not in UTF-8"),
    ],
)
def test_what_cannot_be_done_is_said(path: str, body: dict[str, Any], complaint: str) -> None:
    answer = client().post(f"/api/{path}", json=body)
    assert answer.status_code == 400
    assert complaint in answer.json()["error"]


def test_junk_is_refused() -> None:
    it = client()
    assert it.post("/api/move", content=b"\xff{").status_code == 400
    assert it.post("/api/move", content=b"[1]").status_code == 400
    assert it.post("/api/load", content=b" " * 2_000_000).status_code == 413
    assert it.get("/api/move").status_code == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Host": "evil.example:8017"},
        {"Host": "127.0.0.1"},
    ],
)
def test_other_sites_are_refused(headers: dict[str, str]) -> None:
    it = client()
    assert it.get("/api/state", headers=headers).status_code == 403
    assert it.post("/api/new", json={}, headers=headers).status_code == 403


def test_its_own_page_is_let_in() -> None:
    it = client()
    assert it.get("/api/state", headers={"Origin": "http://127.0.0.1:8017"}).status_code == 200
    assert it.get("/api/state", headers={"Origin": "http://localhost:8017", "Host": "localhost:8017"}).status_code == 200


def test_chess_is_clicked_from_square_to_square() -> None:
    pytest.importorskip("pyspiel")
    it = client("openspiel(game=chess)", side=1)
    view = it.get("/api/state").json()
    assert view["mine"]  # White, who is OpenSpiel's player 1
    assert view["board"]["cells"][:2] == ["r", "n"]
    moves = {(m["from"], m["to"]): m for m in view["board"]["moves"]}
    e4 = moves[52, 36]
    assert e4["text"] == "e4"
    assert post(it, "move", action=e4["action"], ply=0)["board"]["cells"][36] == "P"


def test_videos_are_shown_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a game.mp4").write_bytes(b"video")
    (tmp_path / "secret.txt").write_text("secret")
    it = TestClient(make_app(Table(None, None, tmp_path), 8017), base_url="http://127.0.0.1:8017")
    assert it.get("/api/state").json() == {"game": None, "videos": ["a game.mp4"]}
    assert it.get("/videos/a%20game.mp4").content == b"video"
    for name in ("secret.txt", "..%2Fsecret.txt", "%2e%2e/secret.txt"):
        assert it.get(f"/videos/{name}").status_code == 404
    assert it.post("/api/undo", json={}).status_code == 400


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "rlsuite", "play", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "http://127.0.0.1" in process.stdout.readline()
    return process


@pytest.mark.integration
def test_ctrl_c_ends_it_and_a_taken_port_is_an_error() -> None:
    port = str(20_000 + os.getpid() % 10_000)
    process = start("tic_tac_toe", "--web", "--port", port)
    again = subprocess.run(
        [sys.executable, "-m", "rlsuite", "play", "tic_tac_toe", "--web", "--port", port],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in again.stderr
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    assert process.wait(20) == 0
    assert time.monotonic() - begin < 10
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stdout.close()
    process.stderr.close()


@contextmanager
def in_a_browser(offset: int, *arguments: str) -> Iterator[Any]:
    """The page of `play --web` at a phone's width; none of its scripts may fail."""
    sync_api = pytest.importorskip("playwright.sync_api")
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium on the path")
    port = str(20_000 + os.getpid() % 10_000 + offset)
    process = start(*arguments, "--web", "--port", port)
    try:
        with sync_api.sync_playwright() as play:
            opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page, errors = opened.new_page(viewport={"width": 375, "height": 800}), list[str]()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"http://127.0.0.1:{port}/")
            yield page
            assert page.evaluate("document.documentElement.scrollWidth") <= 375
            assert not errors
            opened.close()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("side", ["first", "second"])
def test_a_browser_plays_a_game_by_keyboard_and_mouse(side: str) -> None:
    """Every second move is made with the keyboard."""
    with in_a_browser(int(side == "second"), "hex(size=4)", "--against", "mcts(simulations=50)", "--side", side) as page:
        turns = 0
        while True:
            page.wait_for_selector('#board[aria-busy="false"]')
            if "your move" not in page.inner_text("#status"):
                break
            cell = page.locator(".cell.can").nth(turns % page.locator(".cell.can").count())
            if turns % 2:
                cell.focus()
                page.keyboard.press("Enter")
            else:
                cell.click()
            turns += 1
        assert turns > 2
        assert page.inner_text("#status") in ("You have won.", "You have lost.")


@pytest.mark.slow
def test_a_browser_asks_what_a_pawn_becomes() -> None:
    pytest.importorskip("pyspiel")
    with in_a_browser(2, "openspiel(game=chess)", "--against", "random", "--side", "both") as page:

        def click(square: str) -> None:
            page.wait_for_selector('#board[aria-busy="false"]')
            page.locator(f'[data-cell="{(8 - int(square[1])) * 8 + ord(square[0]) - ord("a")}"]').click()

        for move in ("h2h4", "g7g5", "h4g5", "h7h6", "g5h6", "a7a6", "h6h7", "a6a5", "h7g8"):
            click(move[:2])
            click(move[2:])
        assert page.inner_text("#status") == "What should the pawn become?"
        offered = page.locator("#moves-here button").all_inner_texts()
        assert sorted(text[-1] for text in offered) == ["B", "N", "Q", "R"]
        page.get_by_role("button", name=next(text for text in offered if text.endswith("N")), exact=True).click()
        page.wait_for_selector('#board[aria-busy="false"]')
        assert page.get_attribute('[data-cell="6"]', "aria-label") == "g8, N"
        assert page.locator("#moves-here button").count() == 0
