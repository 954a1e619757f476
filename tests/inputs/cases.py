"""Inputs that are unusual or bad, and what happens to each: the rows of tests and of the table in docs/inputs.md."""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from unittest import mock
from urllib.parse import urlsplit

from dja_photplug.cli.app import main
from dja_photplug.remote import transport
from tests.remote.server import Fault, serve_folder

__all__ = ["Case", "Outcome", "describe_outcome", "find_faults", "outline", "read_page", "run_case"]

Outcome = Literal["obeyed", "warned", "refused"]
SERVER = "http://server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input.

    Attributes
    ----------
    kind : str
        Heading of its table in the docs.
    given : str
        What is unusual about it, as the docs have it.
    command : str
        What a user types, without the name of the program, in the folder of the files.
    outcome : {'obeyed', 'warned', 'refused'}
        Done without a word, done with one line on stderr that says what is wrong, or refused in one line with status 1.
    says : tuple of str
        What that line holds.
    prepare : callable, optional
        ``prepare(folder)`` spoils the files of a simulated mosaic, ``sim-test-v7.4-f444w-clear``, in its folder.
    check : callable, optional
        ``check(folder)`` asserts that what was written is right.
    status : int, optional
        Exit status where it is refused: 2 for a command line that is wrong.
    environment : mapping of str to str, optional
        Variables that are set.
    faults : tuple of Fault, optional
        How a web server of the folder misbehaves, which the command calls ``http://server``; none by default, and one
        without faults for an empty tuple.
    """

    kind: str
    given: str
    command: str
    outcome: Outcome
    says: tuple[str, ...] = ()
    prepare: Callable[[Path], object] | None = None
    check: Callable[[Path], object] | None = None
    status: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] | None = None

    @property
    def typed(self) -> str:
        """The command with the variables that are set, as the docs have it."""
        return " ".join([*(f"{name}={value}" for name, value in self.environment.items()), self.command])


def run_case(case: Case) -> tuple[int, str]:
    """Run the command of a case in the working directory, a folder of a simulated mosaic, which is spoilt by then.

    Parameters
    ----------
    case : Case

    Returns
    -------
    status : int
        That the process would end with.
    err : str
        What it wrote to stderr.
    """
    err = io.StringIO()
    with _serving(case) as url, redirect_stderr(err), redirect_stdout(io.StringIO()):
        try:
            status = main(shlex.split(case.command.replace(SERVER, url)))
        except SystemExit as end:  # of a command line that is wrong
            status = int(end.code or 0)
    return status, err.getvalue().replace(url, SERVER).replace(urlsplit(url).netloc, urlsplit(SERVER).netloc)


@contextmanager
def _serving(case: Case) -> Iterator[str]:
    """Set the variables of a case, and serve its folder where it asks for that; yield the URL."""
    with ExitStack() as stack:
        environment = {"DJA_PHOTPLUG_CACHE": stack.enter_context(TemporaryDirectory()), **case.environment}
        stack.enter_context(mock.patch.dict(os.environ, environment))
        stack.enter_context(mock.patch.object(transport, "WAIT", 0.001))
        transport.describe.cache_clear()
        if case.faults is None:
            yield SERVER
            return
        server = stack.enter_context(serve_folder(Path.cwd()))
        server.faults += [replace(fault) for fault in case.faults]
        yield server.url


def find_faults(case: Case, status: int, err: str) -> list[str]:
    """Return what is wrong with what a command did: its exit status and its stderr.

    Parameters
    ----------
    case : Case
    status : int
    err : str

    Returns
    -------
    list of str
        Empty where it did what it should.
    """
    lines = [line for line in err.splitlines() if line.startswith("dja-photplug: ")]
    faults = [f"exit status {status}"] if status != (case.status if case.outcome == "refused" else 0) else []
    if "Traceback" in err or re.search(r"\b(?!Photplug)\w+(Error|Exception)\b", err):
        faults.append("a foreign exception")
    if case.outcome == "refused" and (len(lines) != 1 or err.count("\n") != 1):
        faults.append("not one line")
    if case.outcome == "warned" and not lines:
        faults.append("no warning")
    if case.outcome == "obeyed" and lines:
        faults.append("a warning")
    if missing := [words for words in case.says if words not in err]:
        faults.append(f"does not say {missing}")
    return faults


def describe_outcome(case: Case, err: str) -> str:
    """Return what the docs say of a case that ran in the working directory: its outcome, and the line that is seen."""
    err = err.replace(f"{Path.cwd()}/", "").replace(str(Path.cwd()), ".")
    said = [line.removeprefix("dja-photplug: ") for line in err.splitlines() if line.startswith("dja-photplug: ")]
    return f"{case.outcome}: {said[-1].removeprefix('warning: ')}" if said else case.outcome


def read_page(page: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the rows of docs/inputs.md: command and what happens by kind and what is given."""
    rows, kind = {}, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            kind = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| given |", "| --- |")):
            given, command, happens = (cell.replace("\\|", "|") for cell in re.split(r"(?<!\\) \| ", line[2:-2]))
            rows[kind, given] = command.strip("`"), happens
    return rows


def outline(text: str) -> str:
    """Return an outcome without what differs between versions of libraries: the reasons they give, and digits."""
    return re.sub(r"[\d.e+-]*\d", "#", re.sub(r"\([^()]*\)", "()", text.replace("`", "")))
