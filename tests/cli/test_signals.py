"""Signals that end a run: once, however many come, and wherever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

# A command that is signalled, and again while it tidies up.
SCRIPT = """
import os, signal, sys, time, weakref
from dja_photplug.cli import app
number = int(sys.argv[1])
class Thing: pass
def send(_=None):
    os.kill(os.getpid(), number)
    time.sleep(0)
def run(arguments):
    try:
        if sys.argv[2] == "lost":  # while an object is given back, where exceptions are lost
            thing = Thing()
            kept = weakref.ref(thing, send)
            del thing
        elif sys.argv[2] == "library":  # which says something else of it
            try:
                send()
            except BaseException:
                raise ImportError("failed to import") from None
        else:
            send()
        time.sleep(60)
    finally:
        send()
        print("tidied up")
app._run = run
sys.exit(app.main(["plugins"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["work", "lost", "library"])
def test_a_signal_ends_a_run_once(number: signal.Signals, where: str) -> None:
    # Whatever the tests inherited: a run begun by nohup, or in the background of a shell, ignores some of them.
    script = f"import signal; signal.signal({int(number)}, signal.SIG_DFL)\n{SCRIPT}"
    command = [sys.executable, "-c", script, str(int(number)), where]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (run.returncode, run.stdout, run.stderr) == (128 + number, "tidied up\n", "dja-photplug: terminated\n")


def test_a_signal_that_is_ignored() -> None:
    """As by nohup: a run goes on when its terminal is closed."""
    script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + SCRIPT.replace("time.sleep(60)", "pass")
    run = subprocess.run(
        [sys.executable, "-c", script, str(int(signal.SIGHUP)), "work"],
        capture_output=True, text=True, check=False, timeout=50, env=os.environ,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "tidied up\n")
