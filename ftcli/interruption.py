"""A wish to stop, by SIGINT or SIGTERM: noted at once, agreed on by all processes where a step ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# What a process adds to the sum over all processes, so that the sum tells whether, and how, any of them was asked.
_WISHES = {signal.SIGINT: 1, signal.SIGTERM: 2**12}


def _say(line: str) -> None:
    """Print a line within a signal's handler."""
    # No console here: what it was about to print may be half printed. Whoever read it may be gone.
    with suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{line}\n".encode())


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """What was begun ends early, because all processes agreed to stop."""


class Interruption:
    """Whether this process was asked to stop, and whether all of them are going to.

    wish: what it was asked, a number to be summed over the processes. agreed: the signal on which all of them end.
    """

    def __init__(self) -> None:
        self.wish = 0
        self.agreed: signal.Signals | None = None

    def agree(self, wishes: float) -> bool:
        """Take the sum of all wishes, the same on every process; whether to stop."""
        if wishes:
            self.agreed = signal.SIGTERM if wishes >= _WISHES[signal.SIGTERM] else signal.SIGINT
        return self.agreed is not None

    @contextmanager
    def listening(self, notice: str) -> Iterator[None]:
        """Note the signals instead of ending; one after Ctrl-C leaves at once. notice: what the first one prints."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread of a process can listen
            return

        def note(number: int, _: FrameType | None) -> None:
            # Of a second Ctrl-C torch's launcher makes SIGTERM for the workers.
            if self.wish and (number == signal.SIGINT or self.wish == _WISHES[signal.SIGINT]):
                if notice:
                    _say("left at once; what was saved before stands")
                os._exit(128 + number)
            is_first, self.wish = not self.wish, max(self.wish, _WISHES[signal.Signals(number)])
            if is_first and notice:
                _say(notice)

        before = {number: signal.signal(number, note) for number in _WISHES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
