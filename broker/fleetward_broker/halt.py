"""An event that a signal's handler may set.

``threading.Event.set`` in a handler can interrupt that event's own ``wait`` while it holds the lock, in one thread:
both wait for ever, and a service that was told to end does not. Here nothing is locked.
"""

import os
import select


class SignalEvent:
    """As ``threading.Event``; set from handlers and from any thread, waited for by one."""

    def __init__(self) -> None:
        """Begin unset. It holds one file descriptor for as long as it lives."""
        self._set = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def __del__(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def is_set(self) -> bool:
        """Say whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it and wake who waits."""
        self._set = True
        os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Unset it."""
        self._set = False
        if self._poll.poll(0):
            os.eventfd_read(self._fd)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most ``timeout`` seconds; say whether it is."""
        if not self._set:
            self._poll.poll(None if timeout is None else timeout * 1000)
        return self._set
