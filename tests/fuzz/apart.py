"""Calls in processes of their own: what comes out of them, how long they take, and how much memory."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Ended", "Findings", "call_apart"]

SECONDS = 20  # of a processor
MEMORY = 1 << 30  # bytes, above what the process held before
_ROOM = 4 << 30  # more than a fault, so that one is measured; less than the machine has
WALL = 180  # s, of a machine that others use too: what counts is the time of the process


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended: what it returned, or None with what ended the process; the seconds and bytes that it took."""

    said: str | None
    how: str = ""
    seconds: float
    memory: int


@dataclass(slots=True, kw_only=True)
class Findings:
    """What became of inputs; `seconds` and `memory` are the most that one took."""

    inputs: int = 0
    refused: int = 0
    obeyed: int = 0
    seconds: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, ended: Ended) -> None:
        """Note how a call ended that says ``obeyed`` or ``refused``, or else what is wrong.

        Parameters
        ----------
        name : str
            Of the input.
        ended : Ended
        """
        self.inputs += 1
        self.obeyed += ended.said == "obeyed"
        self.refused += ended.said == "refused"
        self.seconds, self.memory = max(self.seconds, ended.seconds), max(self.memory, ended.memory)
        if ended.said not in ("obeyed", "refused"):
            self.faults.append(f"{name}: {ended.how or ended.said}")
        if ended.seconds > SECONDS:
            self.faults.append(f"{name}: took {ended.seconds:.0f} s")
        if ended.memory > MEMORY:
            self.faults.append(f"{name}: took {ended.memory / 1e9:.1f} GB")


def call_apart(call: Callable[[], str]) -> Ended:
    """Call a function in a copy of this process, which may crash, hang or fill the memory.

    Parameters
    ----------
    call : callable
        Returns text.

    Returns
    -------
    Ended
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _work(call, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="backslashreplace") as stream:
        written = stream.read()
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    if written:
        return Ended(**json.loads(written), seconds=seconds)
    code = os.waitstatus_to_exitcode(status)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return Ended(said=None, how=f"{how} after {seconds:.0f} s", seconds=seconds, memory=0)


def _work(call: Callable[[], str], writing: int) -> None:
    """Call, tell, and end without what the process does at its end otherwise."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # nothing that is written in Python, which C may not let run
        signal.alarm(WALL)
        resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        before = _status("VmSize"), _status("VmRSS")
        if before[0]:
            resource.setrlimit(resource.RLIMIT_AS, (before[0] + _ROOM, before[0] + _ROOM))
        try:
            ended = {"said": call()}
        except BaseException as error:
            ended = {"said": None, "how": f"{type(error).__name__}: {error}"}
        told = json.dumps(ended | {"memory": max(0, _status("VmHWM") - before[1])})
        os.write(writing, told.encode("utf-8", "backslashreplace"))
    finally:
        os._exit(0)


def _status(key: str) -> int:
    """Return a number of bytes that the system knows of this process; 0 where it does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def as_json(findings: dict[str, Findings]) -> str:
    """Return findings as text, for :func:`from_json`.

    Parameters
    ----------
    findings : dict of str to Findings

    Returns
    -------
    str
    """
    return json.dumps({name: asdict(found) for name, found in findings.items()}, indent=1) + "\n"


def from_json(text: str) -> dict[str, Findings]:
    """Return the findings of :func:`as_json`.

    Parameters
    ----------
    text : str

    Returns
    -------
    dict of str to Findings
    """
    return {name: Findings(**values) for name, values in json.loads(text).items()}
