"""The inference server answers as the net itself would, whoever asks at the same time, and comes back after it has died."""

import mmap
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlsuite.acting import inference
from rlsuite.acting.act import act
from rlsuite.acting.inference import InferenceServer, Layout, ServedNet, socket_of
from rlsuite.config.loader import resolve
from rlsuite.core.agent import Agent, Mode
from rlsuite.core.errors import RlsuiteError, UsageError
from rlsuite.core.types import Step, tree_map
from rlsuite.factories import make_agent, make_collector, make_env, make_spec
from rlsuite.nets.precision import Precision, in_bf16

CPU = torch.device("cpu")
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "dqn": ("classic/dqn", {}),
    "c51": ("classic/c51", {}),
    "masks": ("classic/dqn", {"env.id": "Taxi-v4"}),
    "r2d2": ("classic/recall_r2d2", {"env.num_envs": 4}),
    "last action": ("classic/recall_r2d2", {"env.num_envs": 4, "net.last_action_reward": True}),
    "attention": ("classic/recall_r2d2", {"env.num_envs": 4, "net.memory": "attention"}),
    "ppo": ("classic/ppo", {}),
    "continuous": ("classic/pendulum_ppo", {}),
    "pixels": ("atari/pong", {"env.num_envs": 3, "learner.precision": "bf16"}),
}


@contextmanager
def serving(agent: Agent, net: Any, path: Path, bf16: bool = False) -> Iterator[InferenceServer]:
    server = InferenceServer(agent, agent.spec, net, CPU, bf16, path)  # type: ignore[attr-defined]
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("case", CONFIGS)
def test_a_collector_does_the_same_with_a_served_net(case: str, tmp_path: Path) -> None:
    """Ticks of the same environments, bit for bit: states, extras and all."""
    name, changes = CONFIGS[case]
    config = resolve(name, {**changes, "run.threads": 1})
    spec, bf16 = make_spec(config), in_bf16(config.learner.precision, torch.device("cpu"))
    agent = make_agent(config, spec)
    torch.manual_seed(0)
    net = Precision(agent.make_net().requires_grad_(False), bf16).net
    with serving(agent, net, tmp_path / "folder" / "net", bf16):
        found = []
        for acting in (net, ServedNet(agent, spec, config.env.num_envs, tmp_path / "folder" / "net")):
            env = make_env(config)
            collector = make_collector(config, env, agent, acting, CPU)
            while not collector.ready(12):
                collector.advance(0)
            found.append((collector.take(), collector.state))
            env.close()
    assert not (tmp_path / "folder").exists()
    same(*found)


def same(one: Any, two: Any) -> None:
    """Asserts that two trees of arrays, tensors and numbers are equal."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        one, two = tuple(one.values()), tuple(two.values())
    if isinstance(one, tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            same(a, b)
    else:
        assert np.array_equal(np.asarray(one), np.asarray(two))


def board(tmp_path: Path) -> tuple[Any, Any, Path]:
    config = resolve("boards/tic_tac_toe", {"run.threads": 1})
    agent = make_agent(config, make_spec(config))
    torch.manual_seed(0)
    return agent, agent.make_net().requires_grad_(False), tmp_path / "net"


def test_everybody_who_asks_gets_the_answer_to_his_own_positions(tmp_path: Path) -> None:
    """Many collectors, and threads of one, at once: requests of different sizes come together in one batch."""
    agent, net, path = board(tmp_path)
    served = [ServedNet(agent, agent.spec, 16, path) for _ in range(3)]
    failures: list[BaseException] = []

    def ask(which: int) -> None:
        rng = np.random.default_rng(which)
        try:
            for _ in range(40):
                planes = rng.integers(0, 2, (rng.integers(1, 17), *agent.spec.observation_shape)).astype(np.int8)
                found, right = agent.evaluate(served[which % 3], planes), agent.evaluate(net, planes)
                np.testing.assert_allclose(found[0], right[0], atol=1e-5)
                np.testing.assert_allclose(found[1], right[1], atol=1e-5)
        except BaseException as error:
            failures.append(error)

    with serving(agent, net, path) as server:
        threads = [threading.Thread(target=ask, args=(which,)) for which in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert server.batches < 240  # some batches had several requests


def test_a_server_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    agent, net, path = board(tmp_path)
    served, planes = ServedNet(agent, agent.spec, 2, path), np.ones((2, *agent.spec.observation_shape), np.int8)
    right = agent.evaluate(net, planes)[0]
    with serving(agent, net, path):
        np.testing.assert_array_equal(agent.evaluate(served, planes)[0], right)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(agent.evaluate(served, planes)[0]))
    waiting.start()
    waiting.join(0.3)
    assert not found
    with serving(agent, net, path):
        waiting.join(10)
        np.testing.assert_array_equal(found[0], right)


def test_a_server_that_never_comes_or_never_answers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, net, path = board(tmp_path)
    monkeypatch.setattr(inference, "RETURN_SECONDS", 0.2)
    monkeypatch.setattr(inference, "ANSWER_SECONDS", 0.2)
    planes = np.ones((1, *agent.spec.observation_shape), np.int8)
    with pytest.raises(RlsuiteError, match=r"^no inference server at .*net for 0 s .*: it must run on the collectors' machine$"):
        agent.evaluate(ServedNet(agent, agent.spec, 2, path), planes)
    with (
        serving(agent, net, path) as server,
        server.busy,
        pytest.raises(RlsuiteError, match=r"^the inference server has not answered for 0 s$"),
    ):
        agent.evaluate(ServedNet(agent, agent.spec, 2, path), planes)


def test_what_a_net_raises_reaches_who_asked_and_the_server_goes_on(tmp_path: Path) -> None:
    agent, net, path = board(tmp_path)
    served, planes = ServedNet(agent, agent.spec, 2, path), np.ones((2, *agent.spec.observation_shape), np.int8)

    class Fails(torch.nn.Module):
        def evaluate(self, planes: Tensor) -> Any:
            if broken:
                raise ValueError("a hole in the net")
            return net.evaluate(planes)

    with serving(agent, Fails(), path):
        broken = True
        with pytest.raises(RlsuiteError, match=r"^the inference server failed: ValueError: a hole in the net$"):
            agent.evaluate(served, planes)
        broken = False
        assert len(agent.evaluate(served, planes)[0]) == 2


def test_a_server_whose_thread_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ends then, and is replaced; clients try again."""
    agent, net, path = board(tmp_path)
    failed = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    server = InferenceServer(agent, agent.spec, net, CPU, False, path, failed.set)
    monkeypatch.setattr(server, "_reply", lambda asked: 1 / 0)
    server.start()
    served, planes = ServedNet(agent, agent.spec, 2, path), np.ones((2, *agent.spec.observation_shape), np.int8)
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(agent.evaluate(served, planes)))
    waiting.start()
    assert failed.wait(10)
    for client in [*server.clients]:
        server._leave(client)  # as the end of its process does
    server.close()
    with serving(agent, net, path):
        waiting.join(10)
    assert len(answers) == 1


def test_a_client_that_stalls_does_not_keep_the_others_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, net, path = board(tmp_path)
    monkeypatch.setattr(inference, "CLIENT_SECONDS", 0.1)
    monkeypatch.setattr(inference, "ANSWER_SECONDS", 5.0)
    with serving(agent, net, path), socket.socket(socket.AF_UNIX) as stalls:
        stalls.connect(str(path))
        served = ServedNet(agent, agent.spec, 2, path)
        assert len(agent.evaluate(served, np.ones((2, *agent.spec.observation_shape), np.int8))[0]) == 2


def test_strangers_at_the_socket_do_no_harm(tmp_path: Path) -> None:
    """A connection that brings no memory, too little of it, or ends at once."""
    agent, net, path = board(tmp_path)
    with serving(agent, net, path):
        for packed, size in ((b"x", None), (b"", None), ((2).to_bytes(8, "little"), 8)):
            with socket.socket(socket.AF_UNIX) as stranger, tempfile.TemporaryFile() as file:
                stranger.connect(str(path))
                if size is not None:
                    file.truncate(size)
                    socket.send_fds(stranger, [packed], [file.fileno()])
                elif packed:
                    stranger.sendall(packed)
        planes = np.ones((2, *agent.spec.observation_shape), np.int8)
        assert len(agent.evaluate(ServedNet(agent, agent.spec, 2, path), planes)[0]) == 2


def test_the_layout_has_no_overlaps(tmp_path: Path) -> None:
    config = resolve("classic/recall_r2d2", {"net.last_action_reward": True})
    agent = make_agent(config, make_spec(config))
    layout = Layout(agent, make_spec(config), 3)
    request, answer = layout.within(mmap.mmap(-1, layout.size))
    leaves: list[Tensor] = []
    tree_map(lambda leaf: leaves.append(leaf) if leaf is not None else None, (request, answer))
    for value, leaf in enumerate(leaves):
        leaf.fill_(value % 2)
    for value, leaf in enumerate(leaves):
        assert (leaf == value % 2).all()


def test_a_socket_has_a_short_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert socket_of("abc").name == "net"
    monkeypatch.setattr(inference.tempfile, "gettempdir", lambda: "/a" * 60)
    assert socket_of("abc") == Path("/tmp/rlsuite-abc/net")


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ("classic/iqn", {}, "runtime.inference = 'server': agent.name=iqn cannot use that; .*dqn.* can"),
        ("classic/rainbow", {}, "agent.noisy: every collector draws noise for its own net"),
        ("classic/dqn", {"replay.prioritized": True, "replay.initial_priority": "td"}, "initial_priority td takes a net"),
        ("classic/dqn", {"runtime.address": "auto"}, "runtime.inference .*address = null"),
        ("classic/dqn", {"runtime.collector_gpus": 1}, "runtime.collector_gpus .*inference = collector"),
    ],
)
def test_what_a_server_cannot_do_is_refused(config: str, changes: dict[str, Any], message: str) -> None:
    def make() -> None:
        checked = resolve(config, {"runtime.kind": "ray", "runtime.inference": "server", **changes})
        make_agent(checked, make_spec(checked))

    with pytest.raises(UsageError, match=message):
        make()


def test_the_step_that_is_sent_has_what_the_net_reads(tmp_path: Path) -> None:
    """Also the last action and reward of a recurrent net, and its state row by row."""
    config = resolve("classic/recall_r2d2", {"net.last_action_reward": True, "env.num_envs": 2})
    spec = make_spec(config)
    agent = make_agent(config, spec)
    torch.manual_seed(0)
    net = agent.make_net().requires_grad_(False)
    rng = torch.Generator().manual_seed(1)
    state = tree_map(lambda leaf: torch.rand(leaf.shape) if leaf.is_floating_point() else leaf + 1, agent.initial_state(2))
    no = torch.zeros(1, 2, dtype=torch.bool)
    seen = torch.rand(1, 2, *spec.observation_shape).to(getattr(torch, spec.observation_dtype))
    step = Step(seen, torch.tensor([[0.5, -2.0]]), no, no, no, torch.tensor([[1, 0]]), {})
    with serving(agent, net, tmp_path / "net"), torch.no_grad():
        mode = Mode(explore=False, agent_steps=0, rng=rng)
        right = act(agent, net, step, state, mode)
        found = act(agent, ServedNet(agent, spec, 2, tmp_path / "net"), step, state, mode)
    same(found[0].numpy(), right[0].numpy())
    same(tree_map(lambda leaf: leaf.numpy(), found[1]), tree_map(lambda leaf: leaf.numpy(), right[1]))
