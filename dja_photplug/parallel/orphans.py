"""Ends a process that copies itself for workers, once it has lost its parent; imported there before all else.

It looks for its parent only when it has imported what workers need, which takes seconds on a busy machine. Meanwhile
Ctrl-C, which is for its parent, would end it with a traceback: it is ignored, by its copies too.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

PARENT_VARIABLE = "_DJA_PHOTPLUG_PARENT"
"""Holds the number of the parent, which may have ended before this is imported."""
_PARENT = os.environ.pop(PARENT_VARIABLE, "")
_EVERY = 0.5  # s


def _look(number: int, frame: FrameType | None) -> None:
    if str(os.getppid()) != _PARENT:
        os._exit(1)


if _PARENT:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGALRM, _look)
    signal.setitimer(signal.ITIMER_REAL, _EVERY, _EVERY)  # copies do not inherit it
