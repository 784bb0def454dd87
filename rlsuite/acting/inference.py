"""One net that acts for many collectors (SEED RL, Espeholt et al. 2020): a server owns it, and collectors send observations.

Each collector shares a block of memory with the server that holds one request and its answer; their socket only signals that one is
there. Whenever the server is free, it answers all requests that have arrived in one batch, and does not wait for others.

Shapes: n rows of a request, which are environments or positions of a board game; L is the maximum of n.
"""

import math
import mmap
import os
import selectors
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.acting.board_agent import BoardAgent
from rlsuite.core import masks
from rlsuite.core.agent import Agent, Net
from rlsuite.core.errors import RlsuiteError, one_line
from rlsuite.core.types import EnvSpec, State, Step, Tree, tree_map
from rlsuite.nets.precision import inference

ANSWER_SECONDS = 60.0  # to wait for an answer: a server that takes longer is taken to hang
RETURN_SECONDS = 180.0  # to wait for the successor of a server that has died
CLIENT_SECONDS = 1.0  # to wait for the rest of a message: the server answers nobody else meanwhile
_COUNT, _LENGTH = struct.Struct("<q"), struct.Struct("<bq")  # rows of a request; whether it failed, and bytes of the error
_ALIGN = 64  # bytes, so that tensors start at a cache line
_LONGEST_PATH = 90  # maximum bytes of a socket's path; systems allow 104 or 108


def socket_of(run: str) -> Path:
    """The path of the socket that a run's inference server listens at; `run`: a name that no other run has."""
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) < _LONGEST_PATH - len(run) else "/tmp", f"rlsuite-{run}", "net")


class Layout:
    """The layout of a request and its answer in shared memory: two trees of tensors [L,...]."""

    def __init__(self, agent: Agent, spec: EnvSpec, rows: int):
        """Finds the answer's shapes by calling a new net of the agent on blank observations. `rows`: L."""
        self.request = _blank(agent, spec, rows)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            self.answer = tree_map(_stored, _call(agent.make_net(), self.request))
        self.size = sum(_padded(leaf) for leaf in (*_leaves(self.request), *_leaves(self.answer)))  # bytes

    def within(self, memory: mmap.mmap) -> tuple[Tree, Tree]:
        """The request and the answer as views of `memory`."""
        at = 0

        def view(leaf: Tensor | None) -> Tensor | None:
            nonlocal at
            if leaf is None:
                return None
            found = torch.frombuffer(memory, dtype=leaf.dtype, count=leaf.numel(), offset=at).view(leaf.shape)
            at += _padded(leaf)
            return found

        return tree_map(view, self.request), tree_map(view, self.answer)


def _blank(agent: Agent, spec: EnvSpec, rows: int) -> Tree:
    """A blank request of `rows` rows: planes of positions, or a step and a recurrent state."""
    seen = torch.zeros(rows, *spec.observation_shape, dtype=getattr(torch, spec.observation_dtype))
    if isinstance(agent, BoardAgent):
        return (seen.to(torch.int8),)
    no = torch.zeros(rows, dtype=torch.bool)
    action = torch.zeros(rows, *spec.action_shape, dtype=getattr(torch, spec.action_dtype))
    extras = {name: torch.ones(rows, *shape, dtype=torch.bool) for name, shape, _ in masks.stored(spec)}
    return Step(seen, torch.zeros(rows), ~no, no, no, action, extras), agent.initial_state(rows)


def _call(net: Any, request: Tree) -> Tree:
    """The net's answer to a request, leaves [n,...]."""
    if not isinstance(request[0], Step):
        return net.evaluate(*request)
    step, state = request
    count = step.first.shape[0]
    output, state = net(tree_map(lambda leaf: leaf.unsqueeze(0), step), state)  # [1,n,...]
    return tree_map(lambda leaf: _rows(leaf, count), output), state


def _rows(leaf: Tensor | None, count: int) -> Tensor | None:
    """An output [1,n,...] as [n,...]; one without these dimensions, such as a shared standard deviation, is repeated n times."""
    if leaf is None:
        return None
    return leaf[0] if leaf.shape[:2] == (1, count) else leaf.expand(count, *leaf.shape)


def _stored(leaf: Tensor | None) -> Tensor | None:
    """A leaf as it is stored in shared memory: floating-point numbers as fp32."""
    return leaf.float() if leaf is not None and leaf.is_floating_point() else leaf


def _leaves(tree: Tree) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map(lambda leaf: found.append(leaf) if leaf is not None else None, tree)
    return found


def _padded(leaf: Tensor) -> int:
    return math.ceil(leaf.numel() * leaf.element_size() / _ALIGN) * _ALIGN


class ServedNet(nn.Module):
    """Stands in for a net that a server owns: an agent acts with it just as with the net itself.

    It has no weights. Each thread that calls it has a connection of its own.
    """

    def __init__(self, agent: Agent, spec: EnvSpec, rows: int, path: Path):
        """`rows`: L. `path`: the server's socket."""
        super().__init__()
        self.layout, self.path, self.of_thread = Layout(agent, spec, rows), path, threading.local()

    def forward(self, step: Step, state: State) -> tuple[Any, State]:
        """(step [1,n,...], state [n,...]) -> (output [1,n,...], state [n,...])."""
        now: Step = tree_map(lambda leaf: leaf[0], step)
        kept = {name: now.extras[name] for name in self.layout.request[0].extras}
        output, state = self._ask((now._replace(extras=kept), state), now.first.shape[0])
        return tree_map(lambda leaf: None if leaf is None else leaf.unsqueeze(0), output), state

    def evaluate(self, planes: Tensor) -> Any:
        """planes [n,C,H,W] int8 -> output, leaves [n,...]."""
        return self._ask((planes,), planes.shape[0])

    def _ask(self, request: Tree, rows: int) -> Tree:
        """The answer to a request of `rows` rows. If the server has died, the request is sent again to its successor.

        RlsuiteError if the server hangs, is not replaced, or reports an error of its own.
        """
        given_up = time.monotonic() + RETURN_SECONDS
        while True:
            try:
                connection, asked, answer = self._connection()
                for into, leaf in zip(_leaves(asked), _leaves(request), strict=True):
                    into[:rows].copy_(leaf)
                connection.sendall(_COUNT.pack(rows))
                failed, length = _LENGTH.unpack(_receive(connection, _LENGTH.size))
                if failed:
                    raise RlsuiteError(f"the inference server failed: {_receive(connection, length).decode()}")
                return tree_map(lambda leaf: None if leaf is None else leaf[:rows].clone(), answer)
            except TimeoutError as error:
                raise RlsuiteError(f"the inference server has not answered for {ANSWER_SECONDS:.0f} s") from error
            except OSError as error:
                vars(self.of_thread).clear()
                if time.monotonic() > given_up:
                    elsewhere = isinstance(error, FileNotFoundError | ConnectionRefusedError)
                    hint = ": it must run on the collectors' machine" if elsewhere else ""
                    raise RlsuiteError(
                        f"no inference server at {self.path} for {RETURN_SECONDS:.0f} s ({one_line(error)}){hint}"
                    ) from error
                time.sleep(0.1)

    def _connection(self) -> tuple[socket.socket, Tree, Tree]:
        """This thread's socket, and its views of the shared request and answer."""
        if not hasattr(self.of_thread, "connection"):
            with tempfile.TemporaryFile() as file:  # it has no name, so nothing has to be cleaned up
                file.truncate(self.layout.size)
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(self.path))
                rows = _leaves(self.layout.request)[0].shape[0]
                socket.send_fds(connection, [_COUNT.pack(rows)], [file.fileno()])
                memory = mmap.mmap(file.fileno(), self.layout.size)
            self.of_thread.connection = connection, *self.layout.within(memory)
        found: tuple[socket.socket, Tree, Tree] = self.of_thread.connection
        return found


def _receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes. ConnectionResetError if the other side is gone."""
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise ConnectionResetError("the connection has ended")
        found += part
    return found


class InferenceServer:
    """Owns a net and answers the requests of `ServedNet`s on its machine, in a thread of its own."""

    def __init__(
        self,
        agent: Agent,
        spec: EnvSpec,
        net: Net,
        device: torch.device,
        bf16: bool,
        path: Path,
        failed: Callable[[], None] = lambda: None,
    ):
        """`net`: on `device`, ready to evaluate. `path`: the socket to make, in a folder that only this user can open.

        `failed`: called if an error ends the thread, since the server would then never answer again.
        """
        self.agent, self.spec, self.net, self.device, self.bf16, self.path = agent, spec, net, device, bf16, path
        self.busy = threading.Lock()  # held while the net computes; its weights change only while nobody holds it
        self.closed, self.failed = threading.Event(), failed
        self.clients: dict[socket.socket, tuple[Tree, Tree]] = {}  # request and answer of each
        self.layouts: dict[int, Layout] = {}  # by rows
        self.batches = 0  # answered so far
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)  # the socket of a predecessor
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Starts to answer, if it has not yet; until then nobody can connect."""
        if not self.thread.is_alive():
            self.listening.listen(1024)
            self.thread.start()

    def close(self) -> None:
        """Stops the server, and removes its socket and the socket's folder."""
        self.closed.set()
        if self.thread.is_alive():
            self.thread.join()
        self.listening.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def _serve(self) -> None:
        try:
            self._answer()
        except BaseException:
            self.failed()
            raise

    def _answer(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listening, selectors.EVENT_READ)
            while not self.closed.is_set():
                asked: list[tuple[socket.socket, int]] = []
                for key, _ in selector.select(0.2):
                    client = key.fileobj
                    assert isinstance(client, socket.socket)
                    if client is self.listening:
                        self._accept(selector)
                        continue
                    try:
                        asked.append((client, *_COUNT.unpack(_receive(client, _COUNT.size))))
                    except OSError:  # its collector has ended
                        selector.unregister(client)
                        self._leave(client)
                if asked:
                    self._reply(asked)
        for client in [*self.clients]:
            self._leave(client)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        """Accepts a new client, which sends its number of rows and the file of the shared memory."""
        try:
            client, _ = self.listening.accept()
        except OSError:  # the client is gone again, or there are too many open files
            return
        client.settimeout(CLIENT_SECONDS)
        files: list[int] = []
        try:
            packed, files, _, _ = socket.recv_fds(client, _COUNT.size, 1)
            (rows,) = _COUNT.unpack(packed)
            if rows not in self.layouts:
                self.layouts[rows] = Layout(self.agent, self.spec, rows)
            layout = self.layouts[rows]
            self.clients[client] = layout.within(mmap.mmap(files[0], layout.size))
        except (OSError, ValueError, IndexError, struct.error):  # the client is gone again, or not one of ours
            client.close()
            return
        finally:
            for file in files:
                os.close(file)
        selector.register(client, selectors.EVENT_READ)

    def _leave(self, client: socket.socket) -> None:
        self.clients.pop(client, None)
        client.close()

    def _reply(self, asked: list[tuple[socket.socket, int]]) -> None:
        """Answers a list of requests, each (client, rows), in one batch."""
        parts = [[leaf[:rows] for leaf in _leaves(self.clients[client][0])] for client, rows in asked]
        like, message = self.clients[asked[0][0]][0], b""
        try:
            batch = iter([torch.cat(leaves).to(self.device) for leaves in zip(*parts, strict=True)])
            with self.busy, inference(self.device, self.bf16):
                found = _leaves(_call(self.net, tree_map(lambda leaf: next(batch), like)))
            ends = 0
            for client, rows in asked:
                begin, ends = ends, ends + rows
                for into, leaf in zip(_leaves(self.clients[client][1]), found, strict=True):
                    into[:rows].copy_(leaf[begin:ends])
        except Exception as error:  # whatever a net raises: the collectors report it
            message = one_line(error).encode()
        self.batches += 1
        for client, _ in asked:
            try:
                client.sendall(_LENGTH.pack(bool(message), len(message)) + message)
            except OSError:
                continue  # its collector has ended: `_serve` notices
