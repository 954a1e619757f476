"""A progress bar over stages that take unlike times, with the tiles that are done of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

from dja_photplug.parallel.workers import Map

__all__ = ["COSTS", "Stages", "show_stages", "tell_read"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Shares of the time, about those of a mosaic of 12000 x 12000 pixels; bands take what measuring one does.
COSTS = {
    "loading": 3.0,
    "background": 1.0,
    "detecting": 5.0,
    "sky": 5.0,
    "neighbours": 5.0,
    "measuring": 5.0,
    "matching": 10.0,
    "epochs": 0.5,
}
BAND = 15.0
MEGABYTE = 10**6


class Stages:
    """What is under way, on a bar.

    Parameters
    ----------
    bar : `~tqdm.tqdm`
        Its total is that of `COSTS`.
    """

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar
        self.stage = ""
        self._start = self._cost = 0.0

    def begin(self, stage: str) -> None:
        """Say that the next stage begins, and so that the one before has ended.

        Parameters
        ----------
        stage : str
            Of `COSTS`, or the name of a band.
        """
        self._start += self._cost
        self.stage, self._cost = stage, COSTS.get(stage, BAND)
        self.tell(0, 0)

    def tell(self, done: int, count: int, unit: str = "") -> None:
        """Say how much of the stage is done.

        Parameters
        ----------
        done, count : int
            How many, and of how many.
        unit : str, optional
            Of both.
        """
        share = done / count if count else 0
        now = min(self._start + share * self._cost, self.bar.total)
        self.bar.n = max(self.bar.n, now)  # a stage may go through its tiles more than once
        self.bar.set_description_str(f"{self.stage} {done}/{count}{unit}" if count > 1 else self.stage)

    def watch(self, parallel: Map) -> Map:
        """Return who does the work, and counts what is done.

        Parameters
        ----------
        parallel : Map

        Returns
        -------
        Map
        """
        if parallel is map:
            return parallel

        def watched(work: Callable[[Item], Outcome], items: Iterable[Item], /) -> Iterator[Outcome]:
            items = list(items)
            for i, result in enumerate(parallel(work, items), start=1):
                self.tell(i, len(items))
                yield result

        return watched


_shown: ContextVar[Stages | None] = ContextVar("shown", default=None)


@contextmanager
def show_stages(stages: Sequence[str], *, show: bool) -> Iterator[Stages]:
    """Show a progress bar over stages.

    Parameters
    ----------
    stages : sequence of str
        Those that will come; names that are not in `COSTS` are bands.
    show : bool
        Where stderr is a terminal.

    Yields
    ------
    Stages
    """
    total = sum(COSTS.get(stage, BAND) for stage in stages)
    bar_format = "{desc:<18} {bar} {percentage:3.0f}% {elapsed}<{remaining}"
    # disable=None: only where stderr is a terminal. leave=None: only where there is no bar above, of fields.
    with tqdm(total=total, disable=None if show else True, leave=None, bar_format=bar_format) as bar:
        shown = Stages(bar)
        token = _shown.set(shown)
        try:
            yield shown
        finally:
            with suppress(ValueError):  # of a generator that is closed in another context
                _shown.reset(token)
        bar.update(bar.total - bar.n)


def tell_read(done: int, size: int) -> None:
    """Say how much of an image has been read, where progress is shown.

    Parameters
    ----------
    done, size : int
        Bytes, inflated.
    """
    stages = _shown.get()
    if stages is not None and size > MEGABYTE:
        stages.tell(done // MEGABYTE, size // MEGABYTE, " MB")
