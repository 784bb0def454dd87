"""Agents on a model hub, which a small server stands in for: only what a run consists of is fetched, and all of it is checked."""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import rlsuite
from rlsuite.core.errors import CheckpointError, RlsuiteError, UsageError
from rlsuite.evaluation.export import export, hub
from rlsuite.runs import checkpoint, pretrained_agents

COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """Repositories of files, as huggingface-hub asks for them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.fetched: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    def answer(self, body: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def do_POST(self) -> None:
        body = self.body()
        if self.path.startswith("/api/repos/create"):
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            return self.answer({"url": f"{self.server.address}/{name}", "id": name})
        if self.path == "/api/validate-yaml":  # the block at the start of the README
            return self.answer({"errors": [], "warnings": []})
        repo = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            return self.answer({"files": files})
        for line in body.splitlines():  # a commit
            told = json.loads(line)
            if told["key"] == "file":
                self.server.repositories[repo][told["value"]["path"]] = base64.b64decode(told["value"]["content"])
        return self.answer({"commitUrl": f"{self.server.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "api":
            repo = "/".join(parts[2:4])
            if repo not in self.server.repositories:
                return self.answer({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            files = self.server.repositories[repo]
            if "tree" in parts:
                return self.answer([{"type": "file", "path": name, "size": len(data), "oid": "1"} for name, data in files.items()])
            return self.answer(
                {
                    "id": repo,
                    "sha": COMMIT,
                    "private": repo.endswith("-private"),
                    "siblings": [{"rfilename": name} for name in files],
                }
            )
        repo, name = "/".join(parts[:2]), "/".join(parts[4:])
        if self.command == "GET":
            self.server.fetched.append(name)
        data = self.server.repositories[repo][name]
        return self.answer(data, headers={"X-Repo-Commit": COMMIT, "ETag": f'"{hash(data)}"'})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_agent_comes_back_from_the_hub_as_it_was_sent(server: Hub, tmp_path: Path) -> None:
    assert hub.push(Path("pretrained:cartpole"), "me/pole", endpoint=server.address) == f"{server.address}/me/pole"
    sent = server.repositories["me/pole"]
    assert {"README.md", "config.yaml", "card.json"} < set(sent)
    assert sent["README.md"].startswith(b"---\nlibrary_name: rlsuite")
    saved = hub.pull("me/pole", tmp_path / "pole", endpoint=server.address)
    assert saved.config.env.id == "CartPole-v1"
    fetched = {str(path.relative_to(tmp_path / "pole")) for path in (tmp_path / "pole").rglob("*") if path.is_file()}
    assert fetched == set(sent)
    assert rlsuite.evaluate(tmp_path / "pole", 3).mean == rlsuite.evaluate("pretrained:cartpole", 3).mean


@pytest.mark.parametrize("content", ['{"mean": ', "[]", '{"episodes": 3}', '{"mean": 1, "episodes": 3, "mean_interval": [1]}'])
def test_a_damaged_score_is_named(content: str, tmp_path: Path) -> None:
    run = Path(shutil.copytree(pretrained_agents.card("pretrained:cartpole").folder, tmp_path / "run"))
    found = checkpoint.find(run)
    found.with_name(f"{found.name}.evaluation.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"evaluation\.json is damaged or was edited: remove it"):
        export(run, "folder", tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_a_public_repository_gets_nothing_that_should_be_private(server: Hub) -> None:
    hub.push(Path("pretrained:cartpole"), "me/pole-private", private=True, endpoint=server.address)
    with pytest.raises(RlsuiteError, match="the repository exists and is public"):
        hub.push(Path("pretrained:cartpole"), "me/pole", private=True, endpoint=server.address)
    assert server.repositories["me/pole"] == {}


def test_code_and_pickles_are_not_even_fetched(server: Hub, tmp_path: Path) -> None:
    hub.push(Path("pretrained:cartpole"), "me/pole", endpoint=server.address)
    server.repositories["me/pole"] |= {"agent.py": b"boom", "weights.pkl": b"\x80", "checkpoints/model.pt": b"\x80"}
    hub.pull("me/pole", tmp_path / "pole", endpoint=server.address)
    assert not [name for name in server.fetched if name.endswith((".py", ".pkl", ".pt"))]
    assert not (tmp_path / "pole" / "agent.py").exists()


def test_a_tampered_file_is_refused_and_nothing_is_left(server: Hub, tmp_path: Path) -> None:
    hub.push(Path("pretrained:cartpole"), "me/pole", endpoint=server.address)
    files = server.repositories["me/pole"]
    (weights,) = [name for name in files if name.endswith("weights.safetensors")]
    files[weights] = files[weights][:-1] + bytes([files[weights][-1] ^ 1])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        hub.pull("me/pole", tmp_path / "pole", endpoint=server.address)
    assert [path.name for path in tmp_path.iterdir() if "pole" in path.name] == []


@pytest.mark.parametrize(
    ("repo", "error", "message"),
    [
        ("pole", UsageError, "a repository is named user/name"),
        ("me/none", RlsuiteError, "me/none was not fetched: .*404"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(repo: str, error: type[Exception], message: str, server: Hub, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        hub.pull(repo, tmp_path / "out", endpoint=server.address)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_refused(server: Hub, tmp_path: Path) -> None:
    server.repositories["me/notes"] = {"README.md": b"# Notes\n"}
    with pytest.raises(UsageError, match="not a run folder"):
        hub.pull("me/notes", tmp_path / "out", endpoint=server.address)
    assert not (tmp_path / "out").exists()


def test_a_hub_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(RlsuiteError, match="me/pole was not sent"):
        hub.push(Path("pretrained:cartpole"), "me/pole", endpoint="http://127.0.0.1:9")


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'rlsuite\[hub\]'"):
        hub.pull("me/pole", tmp_path / "out")
