"""One thread for calls that may hang: whoever asks waits so long and no longer, and a call that hangs bars the next.

A module that waits for its device cannot be interrupted; the caller can. Source: S6.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Hangs(Exception):  # noqa: N818 - says what the call does
    """A call has not come back: this one, or the one before it."""


class Lane:
    """Calls one after the other, in a thread that no end of the process waits for."""

    def __init__(self) -> None:
        """Prepare; the thread begins with the first call, in the process that makes it."""
        self._asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: Future[Any] | None = None

    def call(self, act: Callable[[], T], within_s: float) -> T:
        """Do ``act`` and return what it returns, or raise what it raises; callers come one at a time.

        Raises:
            Hangs: nothing came within the time; what it brings later is thrown away.
        """
        if self._last is not None and not self._last.done():
            raise Hangs
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="token", daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._last = future
        self._asked.put((future, act))
        try:
            return future.result(within_s)
        except TimeoutError:
            if future.done():
                raise
            raise Hangs from None

    def _work(self) -> None:
        while True:
            future, act = self._asked.get()
            try:
                future.set_result(act())
            except BaseException as error:  # noqa: BLE001 - carried to whoever asked, whatever it is
                future.set_exception(error)
            del future, act
