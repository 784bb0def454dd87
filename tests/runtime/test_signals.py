"""Signals: the first asks a run to stop, later ones end what it waits for, and none ends an update or a checkpoint."""

import os
import signal
import threading

import pytest

from rlsuite.runtime import signals as module
from rlsuite.runtime.signals import Stop, signals


def test_the_first_signal_asks_and_a_later_one_ends_the_waiting(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    stop = Stop()
    assert not stop
    stop.note(signal.SIGTERM, None)
    assert stop
    now[0] += 9.0
    stop.note(signal.SIGINT, None)  # a launcher passes it on
    now[0] += 2.0
    with stop.finishing():
        stop.note(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        stop.note(signal.SIGINT, None)
    said = capfd.readouterr().err.splitlines()
    assert said == ["rlsuite: stopping (SIGTERM): writing a checkpoint", *["rlsuite: still stopping"] * 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_noted_and_their_handlers_put_back(number: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with signals() as stop:
            signal.signal(number, signal.SIG_DFL)  # as libraries do
            stop.arm()
            os.kill(os.getpid(), number)
        assert stop == [number]
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_process_under_nohup_goes_on_ignoring_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_receives_no_signals() -> None:
    found: list[Stop] = []

    def inside() -> None:
        with signals() as stop:
            stop.arm()
            found.append(stop)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [[]]
