"""Workers of a Dask scheduler, as an executor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from dja_photplug.errors import PhotplugError

__all__ = ["join_cluster"]

WAIT = "10s"
# They tell of a lost connection by tracebacks, beside the error of the run.
LOGGERS = ("distributed.client", "tornado.application")


@contextmanager
def join_cluster(address: str) -> Iterator[Executor]:
    """Connect to a Dask scheduler.

    Parameters
    ----------
    address : str
        Such as ``tcp://10.0.0.1:8786``.

    Yields
    ------
    `~concurrent.futures.Executor`
        Its workers; each does one thing at a time, however many threads it has.

    Raises
    ------
    PhotplugError
        Where Dask is not installed, nobody answers at the address, or a worker is lost again and again.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise PhotplugError(
            "a scheduler needs Dask, which is not installed: pip install 'dja_photplug[dask]', or leave out --scheduler"
        ) from None
    try:
        with ThreadPoolExecutor(1) as apart:  # there may be a loop in this thread, as in notebooks
            apart.submit(asyncio.run, _reach(address)).result()
        client = Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        raise PhotplugError(
            f"option scheduler: no Dask scheduler answers at {address} ({str(error) or 'timeout'}); start one, or "
            "leave it out"
        ) from None
    # Not pure: a call with the same arguments is another one, as planes change.
    executor = client.get_executor(pure=False)
    with _silencing():
        try:
            yield executor
        except KilledWorker:
            raise PhotplugError(
                f"option scheduler: workers at {address} died repeatedly, perhaps out of memory; give them more "
                "memory, or use a smaller --tile-size"
            ) from None
        finally:
            executor.shutdown(wait=False)  # what is under way after Ctrl-C would tell that it lost its connection
            client.close()


async def _reach(address: str) -> None:
    """See that somebody answers: a client that finds nobody waits for its own end, and tells of that by a traceback."""
    from distributed.comm import connect
    from distributed.security import Security

    comm = await connect(address, timeout=WAIT, **Security().get_connection_args("client"))
    await comm.close()


@contextmanager
def _silencing() -> Iterator[None]:
    """Let Dask log nothing of what an error tells."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [each.disabled for each in loggers]
    for each in loggers:
        each.disabled = True
    try:
        yield
    finally:
        for each, disabled in zip(loggers, before, strict=True):
            each.disabled = disabled
