"""The command ``dja-photplug``: its parser, and what becomes of errors."""

from __future__ import annotations

import argparse
import errno
import gc
import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

try:
    import resource  # now, when there is memory to load it
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

import pluggy

from dja_photplug import __version__
from dja_photplug.cli.parser import Parser
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.lazy import HUGE_PAGES
from dja_photplug.options.arguments import PluginStages, add_plugin_flags
from dja_photplug.outputs.held import ENDING
from dja_photplug.outputs.run import Outputs
from dja_photplug.plugins.manager import find_raiser, get_plugin_manager
from dja_photplug.plugins.options import plugin_stages, register_commands
from dja_photplug.remote.cache import show_transfers
from dja_photplug.remote.transport import bytes_moved

__all__ = ["build_parser", "console", "main"]


def build_parser(manager: pluggy.PluginManager) -> Parser:
    """Return the parser of the command line, with the commands and the flags of all plugins.

    Parameters
    ----------
    manager : PluginManager

    Returns
    -------
    Parser
        What it parses has the function to call, ``run``, the manager and the options of plugins, ``plugin_stages``.

    Raises
    ------
    PhotplugError
        Where the commands or options of plugins contradict each other.
    """
    parser = Parser(
        prog="dja-photplug",
        description="Photometry on DAWN JWST Archive mosaics with the full, Poisson-inclusive weight.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"%(prog)s {__version__}")
    of_commands: type[argparse.ArgumentParser] = Parser
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=of_commands)
    register_commands(manager, subparsers)
    stages = plugin_stages(manager)
    parser.set_defaults(manager=manager, plugin_stages=stages)
    for name, kind in stages.items():
        _add_to_commands(subparsers.choices, name, kind.commands, stages)
    return parser


def _add_to_commands(
    commands: dict[str, argparse.ArgumentParser], name: str, wanted: Sequence[str], stages: PluginStages
) -> None:
    """Give commands the flags of a plugin's options."""
    for command in wanted:
        if command not in commands:
            raise PhotplugError(
                f"options {name!r} of a plugin name the command {command}, which does not exist; there are "
                f"{', '.join(commands)}"
            )
        add_plugin_flags(commands[command], name, stages[name])


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"dja-photplug: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _describe_bug(error: Exception, manager: pluggy.PluginManager | None) -> str:
    """Return one line on an exception that is no bad input: whose it is, what, and where."""
    plugin = None if manager is None else find_raiser(manager, error)
    whose = "internal error" if plugin is None else f"plugin {plugin!r} failed"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}, in {Path(frame.filename).name}, line {frame.lineno}"
    return f"{whose}: {what}; this is a bug, --debug shows its traceback"


def _is_short(error: Exception) -> bool:
    """Return whether memory is what is missing, also where a library tells it in its own way."""
    no_room = "failed to map segment", "annot allocate memory", "can't start new thread"
    is_told = isinstance(error, ImportError | RuntimeError) and any(text in str(error) for text in no_room)
    return is_told or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _describe_shortage(error: Exception) -> str:
    """Return one line on memory that is short: how much was needed, as far as it is known, and what is held."""
    asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
    needed = f"{asked[1]} more were needed" if asked else "more was needed"
    held = f", and this process held {_held_bytes() / 1e6:.0f} MB" if _held_bytes() else ""
    return f"memory is short: {needed}{held}; use --cutout, a smaller --tile-size or fewer --workers, or free memory"


def _held_bytes() -> int:
    """Return the most memory that this process has held; 0 where the system does not tell."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _describe(error: Exception, manager: pluggy.PluginManager | None) -> str:
    """Return what the user is told of an exception."""
    if isinstance(error, PhotplugError):
        return str(error)
    if isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
        _close_stdout()
        return f"what is printed cannot be written ({error.strerror}); free space, or print elsewhere"
    if _is_short(error):
        return _describe_shortage(error)
    ours = manager is None or find_raiser(manager, error) is None
    if ours and isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: cannot be used ({error.strerror}); check the path and its permissions"
    return _describe_bug(error, manager)


def _run(arguments: argparse.Namespace) -> None:
    """Run a command; one that ends the process by itself has not succeeded, whatever its status."""
    try:
        arguments.run(arguments)
    except SystemExit as end:
        raise PhotplugError(f"{arguments.command}: the command ended by itself (SystemExit {end.code})") from end


# What printing raises, and nothing else without the name of a file.
_FULL = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EBADF)


def _settle_streams() -> None:
    """Let text be printed whatever the terminal can show, and nowhere where a stream is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _close_stdout() -> None:
    """Let what is still to be printed go nowhere, also at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler of batch jobs sends it, or SIGHUP, of a terminal that is closed: all is tidied up."""


class _Signals:
    """The signals that end a process: each raises, once, however many come."""

    def __init__(self) -> None:
        # Not one that is ignored, as nohup does, or that somebody who is not in Python has set.
        handlers = {each: signal.getsignal(each) for each in ENDING[1:]}
        self.before = {each: handler for each, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}
        self.hook = sys.unraisablehook
        self.came: list[int] = []

    def listen(self) -> None:
        """Let the next one raise."""
        for each in self.before:
            signal.signal(each, self._end)
        sys.unraisablehook = self._repeat

    def leave(self) -> None:
        """Let all be as it was."""
        sys.unraisablehook = self.hook
        for each, handler in self.before.items():
            signal.signal(each, handler)

    def _end(self, number: int, _: FrameType | None) -> None:
        for each in self.before:
            signal.signal(each, signal.SIG_IGN)
        self.came.append(number)
        raise _Terminated(number)

    def _repeat(self, lost: sys.UnraisableHookArgs) -> None:
        """Send a signal once more that raised while an object was given back, where exceptions are lost."""
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            self.hook(lost)
            return
        self.listen()
        number = lost.exc_value.args[0] if isinstance(lost.exc_value, _Terminated) else signal.SIGINT
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()


@contextmanager
def _ending_as_by_ctrl_c() -> Iterator[None]:
    """Let signals that end a process raise where that can be done, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = _Signals()
    signals.listen()
    try:
        yield
    except Exception as error:
        if (
            signals.came
        ):  # a library made an error of its own of it, as some do where they are interrupted while imported
            raise _Terminated(signals.came[0]) from error
        raise
    finally:
        signals.leave()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the name of the program; those of the process by default.

    Returns
    -------
    int
        The exit status: 0 on success, 1 on bad input (one line on stderr), 130 on Ctrl-C, 143 where it is terminated,
        129 where its terminal is closed.

    Raises
    ------
    SystemExit
        With 2 on a usage error, with 0 after ``--help`` and ``--version``.
    Exception
        With ``--debug`` whatever went wrong, for its traceback.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    manager = None
    _settle_streams()
    try:
        with _ending_as_by_ctrl_c(), warnings.catch_warnings():
            warnings.simplefilter("default", PhotplugWarning)
            warnings.showwarning = _show_warning
            manager = get_plugin_manager()
            parser = build_parser(manager)
            if "_ARGCOMPLETE" in os.environ:
                from dja_photplug.cli.completion import complete

                complete(parser)
            arguments = parser.parse(argv)
            # A plugin's command may lack the flags.
            before, quiet = bytes_moved(), getattr(arguments, "quiet", False) or getattr(arguments, "json", False)
            with show_transfers(show=not quiet), Outputs():
                _run(arguments)
            if not quiet and (moved := bytes_moved() - before):
                print(f"{moved / 1e6:.1f} MB came from servers")
        sys.stdout.flush()
    except BrokenPipeError:  # `dja-photplug plugins | head`: nobody reads on, which is no error
        _close_stdout()
    except _Terminated as ended:
        with suppress(OSError):  # of a terminal that is no more
            print("dja-photplug: terminated", file=sys.stderr)
        return 128 + int(ended.args[0])
    except KeyboardInterrupt:
        print("dja-photplug: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if "--debug" in argv:
            raise
        print(f"dja-photplug: {' '.join(_describe(error, manager).split())}", file=sys.stderr)
        return 1
    return 0


def console() -> int:
    """Run the command line as a process of its own, which ends with it.

    Returns
    -------
    int
        As :func:`main`.
    """
    os.environ.setdefault(HUGE_PAGES, "0")  # commands import numpy
    try:
        return main()
    finally:
        # At its end the interpreter looks through all that was imported for what nobody refers to: 0.25 s.
        gc.freeze()
