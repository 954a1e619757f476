"""Many fields, a catalogue of each: what is complete stays, what changed is made again, what fails stops no other."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pluggy
from astropy.table import MaskedColumn, Table
from tqdm import tqdm

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.tables.write import write_catalog
from dja_photplug.options.run import Options
from dja_photplug.outputs.held import held_folder
from dja_photplug.outputs.moves import mend
from dja_photplug.outputs.run import Outputs
from dja_photplug.parallel.cluster import join_cluster
from dja_photplug.parallel.workers import Workers
from dja_photplug.pipeline.images import Products
from dja_photplug.pipeline.steps.sharing import is_large
from dja_photplug.plugins.manager import get_plugin_manager, split_work
from dja_photplug.surveys.check import MADE_BY, SUMMARY, check_fields
from dja_photplug.surveys.given import describe_idle_fields
from dja_photplug.surveys.plan import Field, make_fields, read_fields
from dja_photplug.surveys.state import SurveyOutput, working_directory
from dja_photplug.surveys.work import Job, Outcome, do_apart, do_field, plan_field

__all__ = ["run_fields", "survey"]

MODULES = ("dja_photplug.surveys.work",)


def survey(
    fields: str | Path | Mapping[str, Sequence[Products]],
    directory: str | Path,
    options: Options | None = None,
    *,
    suffix: str = ".fits",
    segmentations: bool = False,
    redo: bool = False,
    overwrite: bool = False,
    manager: pluggy.PluginManager | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Table:
    """Make a catalogue of each of many fields, as :func:`dja_photplug.run` does of one.

    What is complete stays as it is: a catalogue whose options, versions and files are those of last time. A field that
    fails stops no other.

    Parameters
    ----------
    fields : str, Path or mapping
        A list in TOML, or the bands of each field by its name: prefixes, member files, what a plugin finds, or sources.
    directory : str or Path
        Of the catalogues ``NAME.fits``; made if it is not there. The state of each is kept in ``NAME.fits.json``.
    options : Options, optional
        Those of the list win over them. Values of a band are for the fields that have it.
    suffix : str, optional
        Of the catalogues: ``.fits``, ``.ecsv`` or ``.parquet``.
    segmentations : bool, optional
        Write ``NAME_seg.fits.gz`` too.
    redo : bool, optional
        Make all again.
    overwrite : bool, optional
        Replace catalogues in the directory that are not of this survey, or were changed since.
    manager : PluginManager, optional
        All plugins by default.
    executor : `~concurrent.futures.Executor`, optional
        Whose workers do the fields: small ones whole, large ones by their tiles. They must see the files and the
        directory. Without it, and without ``bands.workers`` or ``tiles.scheduler`` in the options, it is one field
        after the other.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.

    Returns
    -------
    `~astropy.table.Table`
        The summary, which is in ``summary.ecsv`` too: ``field``, ``status`` (made, skipped, redone, failed),
        ``sources`` (masked where a field failed), ``bands``, ``seconds``, ``message``.

    Raises
    ------
    PhotplugError
        Before the work, where the list, an option, a name or a file in the directory does not allow it.

    Warns
    -----
    PhotplugWarning
        While a field is measured, with its name, as :func:`dja_photplug.run` does; at the end, of options of the list
        that have no effect beside others.
    """
    manager = manager or get_plugin_manager()
    listed = (
        make_fields(fields, options or Options(), manager)
        if isinstance(fields, Mapping)
        else read_fields(Path(fields), manager, defaults=options)
    )
    output = SurveyOutput(
        directory=Path(directory), suffix=suffix, segmentations=segmentations, redo=redo, overwrite=overwrite
    )
    return run_fields(listed, output, manager, executor=executor, progress=progress)


def run_fields(
    fields: Sequence[Field],
    output: SurveyOutput,
    manager: pluggy.PluginManager,
    *,
    executor: Executor | None = None,
    progress: bool = False,
    debug: bool = False,
) -> Table:
    """Make the catalogues of fields that are not complete.

    Parameters
    ----------
    fields : sequence of Field
        From :func:`dja_photplug.surveys.plan.read_fields`.
    output : SurveyOutput
    manager, executor, progress
        As for :func:`survey`.
    debug : bool, optional
        Print the traceback of each field that fails.

    Returns
    -------
    `~astropy.table.Table`
        As of :func:`survey`.

    Raises
    ------
    PhotplugError
        As :func:`survey`.

    Warns
    -----
    PhotplugWarning
        At the end, of flags and options of the list that have no effect.
    """
    mend(output.directory)
    check_fields(fields, output, manager)
    outcomes: dict[str, Outcome] = {}
    jobs = []
    for field in fields:
        job = plan_field(field, output, manager)
        if isinstance(job, Job):
            jobs.append(job)
        else:
            outcomes[field.name] = job
    with ExitStack() as stack:
        if executor is None and jobs and (scheduler := jobs[0].field.options.tiles.scheduler) is not None:
            executor = stack.enter_context(join_cluster(scheduler))
        folder = stack.enter_context(_open_directory(output.directory))
        # What is complete tells nothing of the time that is left.
        bar = tqdm(desc="fields", total=len(fields), initial=len(outcomes), disable=None if progress else True)
        stack.enter_context(bar)
        # Closed before the folder is removed, so that no process writes there any more.
        made = stack.enter_context(closing(_do_all(jobs, manager, folder, executor, progress=progress)))
        for outcome in made:
            outcomes[outcome.field] = outcome
            bar.update(1)
            if debug and outcome.trace:
                tqdm.write(outcome.trace, file=sys.stderr)
        summary = _sum_up([outcomes[field.name] for field in fields])
        with Outputs():
            write_catalog(summary, output.directory / SUMMARY, overwrite=True)
    given = [(field.name, field.options, field.given) for field in fields if field.given is not None]
    for note in describe_idle_fields(given):
        warnings.warn(note, PhotplugWarning, stacklevel=3)
    return summary


@contextmanager
def _open_directory(directory: Path) -> Iterator[Path]:
    """Make the directory, and yield a folder in it for what is not complete; nothing is left of what was not made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        stack = ExitStack()
        folder = stack.enter_context(held_folder(directory.absolute(), ".survey-"))
    except OSError as error:
        raise PhotplugError(f"{directory}: cannot be written ({error.strerror}); name another folder") from None
    try:
        with stack:
            yield folder
    finally:
        mend(directory)  # of workers that were ended
        with suppress(OSError):  # not empty
            directory.rmdir()


def _do_all(
    jobs: Sequence[Job],
    manager: pluggy.PluginManager,
    folder: Path,
    executor: Executor | None,
    *,
    progress: bool,
) -> Generator[Outcome]:
    """Yield the rows of fields as they are made: of small ones that are shared out first."""
    done = set()
    small = _choose_small(jobs, manager, executor)
    whole = {job.field.name for job in small}
    if small:
        count = min(jobs[0].field.options.bands.workers or 1, len(small))
        with Workers(count, executor=executor, folder=folder, modules=MODULES) as workers:
            outcomes = workers.map(partial(do_apart, working_directory()), small)
            try:
                for outcome in outcomes:
                    done.add(outcome.field)
                    yield outcome
            except Exception as error:  # of the workers: a field's own is in its row
                told = f"{error or type(error).__name__}; doing the remaining fields one after the other"
                warnings.warn(told, PhotplugWarning, stacklevel=3)
    for job in jobs:
        if job.field.name not in done:
            lost = job.field.name in whole
            who = (job.field.options, manager, executor)
            yield do_apart(None, job) if lost else do_field(job, *who, progress=progress)


def _choose_small(jobs: Sequence[Job], manager: pluggy.PluginManager, executor: Executor | None) -> list[Job]:
    """Return the fields that workers do whole: none where nobody shares them."""
    if not jobs:
        return []
    workers = jobs[0].field.options.bands.workers or 1
    if executor is None and (len(jobs) < 2 or workers == 1):
        return []
    if split_work(manager, 2)[0] == 1:
        told = "plugins registered by hand are known only in this process, so no workers are used"
        warnings.warn(told, PhotplugWarning, stacklevel=4)
        return []
    small = []
    for job in jobs:
        try:
            large = is_large(job.field.images, job.field.options)
        except PhotplugError:  # its header cannot be read, which is told where it is measured
            large = False
        if not large:
            small.append(job)
    return small if executor is not None or len(small) > 1 else []


def _sum_up(outcomes: Sequence[Outcome]) -> Table:
    """Return the summary."""
    names = ("field", "status", "sources", "bands", "seconds", "message")
    columns = {name: [getattr(outcome, name) for outcome in outcomes] for name in names}
    counts = [count is None for count in columns["sources"]]
    sources = MaskedColumn([count or 0 for count in columns["sources"]], mask=counts, dtype=int)
    return Table(columns | {"sources": sources}, meta={"MADE_BY": MADE_BY})
