"""Promises of the event that a signal's handler sets: it wakes its waiter, and never hangs with it."""

import signal
import threading
import time

import pytest

from fleetward_broker.halt import SignalEvent

ROUNDS = 2000


def test_it_is_as_an_event_is():
    event = SignalEvent()
    assert not event.is_set()
    assert not event.wait(0.01)
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not event.wait(0.01)


@pytest.mark.usefixtures("many_open")
def test_it_is_so_among_many_open_files():
    event = SignalEvent()
    assert not event.wait(0.01)
    event.set()
    assert event.wait()
    event.clear()
    assert not event.is_set()


def test_another_thread_wakes_who_waits():
    event = SignalEvent()
    threading.Timer(0.05, event.set).start()
    assert event.wait(30)


def test_a_handler_that_interrupts_the_wait_at_any_moment_never_hangs():
    event, heard = SignalEvent(), [0]

    def hear(*_: object) -> None:
        heard[0] += 1
        event.set()

    before = signal.signal(signal.SIGALRM, hear)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        ended = time.monotonic() + 30
        while heard[0] < ROUNDS and time.monotonic() < ended:
            event.wait(0.001)
            event.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert heard[0] >= ROUNDS
