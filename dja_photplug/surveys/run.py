"""Many fields, a catalogue of each: what is complete stays, what changed is made again, what fails stops no other."""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pluggy
from astropy.table import MaskedColumn, Table
from tqdm import tqdm

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.tables.write import write_catalog
from dja_photplug.files.written import write_image
from dja_photplug.options.run import Options
from dja_photplug.outputs.held import held_folder
from dja_photplug.outputs.moves import mend
from dja_photplug.outputs.run import Outputs
from dja_photplug.outputs.whole import whole_file
from dja_photplug.parallel.cluster import join_cluster
from dja_photplug.parallel.workers import Workers
from dja_photplug.pipeline.catalog import run
from dja_photplug.pipeline.images import Products
from dja_photplug.pipeline.one_band import write_result
from dja_photplug.pipeline.tiles import is_large
from dja_photplug.plugins.manager import get_plugin_manager, split_work
from dja_photplug.surveys.check import MADE_BY, SUMMARY, check_fields
from dja_photplug.surveys.plan import Field, make_fields, read_fields
from dja_photplug.surveys.state import (
    Recipe,
    Record,
    SurveyOutput,
    find_change,
    find_made,
    make_recipe,
    read_record,
    sum_file,
    working_directory,
    working_in,
)

__all__ = ["run_fields", "survey"]

MODULES = ("dja_photplug.surveys.run",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """A field, what is known of it, why it is made again, and whether a stack of last time is replaced."""

    field: Field
    output: SurveyOutput
    recipe: Recipe
    record: Record | None
    change: str
    overwrite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """A row of the summary, and the traceback where there is one."""

    field: str
    status: str
    sources: int | None
    bands: str
    seconds: float
    message: str
    trace: str = ""


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
    """
    mend(output.directory)
    check_fields(fields, output, manager)
    outcomes: dict[str, _Outcome] = {}
    jobs = []
    for field in fields:
        job = _plan_field(field, output, manager)
        if isinstance(job, _Job):
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
    return summary


def _plan_field(field: Field, output: SurveyOutput, manager: pluggy.PluginManager) -> _Job | _Outcome:
    """Return what is to be done for a field, or its row where it is complete."""
    recipe, name = make_recipe(field, manager), field.name
    record = read_record(output.record(name))
    there = [path for path in output.files(name) if path.exists()]
    known = {path.name for path in there if record is not None and record.knows(path)}
    unknown = [path for path in there if path.name not in known]
    change = "" if record is None else find_change(record.recipe, recipe)
    if record is not None and change is None:
        changed = f"{unknown[0].name} was changed since" if unknown else ""
        change = "all is made again" if output.redo else _find_missing(record, output.files(name))
        if change is None:
            bands = ", ".join(source.band for source in field.sources)
            return _Outcome(
                field=name, status="skipped", sources=record.sources, bands=bands, seconds=0.0, message=changed
            )
    if unknown and not output.overwrite:
        whose = "is not of this survey" if record is None else "was changed since the survey wrote it"
        raise PhotplugError(f"{unknown[0]}: already exists and {whose}; name another folder or add --overwrite")
    overwrite = output.overwrite or (record is not None and _stack_of(record.recipe) == _stack_of(recipe))
    return _Job(field=field, output=output, recipe=recipe, record=record, change=change or "", overwrite=overwrite)


def _stack_of(recipe: Recipe) -> object:
    bands = recipe.options.get("bands")
    return bands.get("stack") if isinstance(bands, dict) else None


def _find_missing(record: Record, files: Iterable[Path]) -> str | None:
    """Return what is not there of a field."""
    missing = (path.name for path in files if not path.exists() or path.name not in record.outputs)
    return next((f"{name} was not there" for name in missing), None)


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
    jobs: Sequence[_Job],
    manager: pluggy.PluginManager,
    folder: Path,
    executor: Executor | None,
    *,
    progress: bool,
) -> Generator[_Outcome]:
    """Yield the rows of fields as they are made: of small ones that are shared out first."""
    done = set()
    small = _choose_small(jobs, manager, executor)
    whole = {job.field.name for job in small}
    if small:
        count = min(jobs[0].field.options.bands.workers or 1, len(small))
        with Workers(count, executor=executor, folder=folder, modules=MODULES) as workers:
            outcomes = workers.map(partial(_do_apart, working_directory()), small)
            try:
                for outcome in outcomes:
                    done.add(outcome.field)
                    yield outcome
            except Exception as error:  # of the workers: a field's own is in its row
                told = f"{error or type(error).__name__}; fields that are left are done one after the other"
                warnings.warn(told, PhotplugWarning, stacklevel=3)
    for job in jobs:
        if job.field.name not in done:
            lost = job.field.name in whole
            who = (job.field.options, manager, executor)
            yield _do_apart(None, job) if lost else _do(job, *who, progress=progress)


def _choose_small(jobs: Sequence[_Job], manager: pluggy.PluginManager, executor: Executor | None) -> list[_Job]:
    """Return the fields that workers do whole: none where nobody shares them."""
    if not jobs:
        return []
    workers = jobs[0].field.options.bands.workers or 1
    if executor is None and (len(jobs) < 2 or workers == 1):
        return []
    if split_work(manager, 2)[0] == 1:
        told = "plugins that are registered by hand are known in this process alone, which does all of the work"
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


def _do_apart(place: Path | None, job: _Job) -> _Outcome:
    """Measure a field whole, without other processes, where names of files begin in `place`."""
    options = job.field.options
    alone = replace(options, bands=replace(options.bands, workers=1), tiles=replace(options.tiles, scheduler=None))
    with working_in(place):
        return _do(job, alone, get_plugin_manager())


def _do(
    job: _Job,
    options: Options,
    manager: pluggy.PluginManager,
    executor: Executor | None = None,
    *,
    progress: bool = False,
) -> _Outcome:
    """Measure a field and write its catalogue; an error is in the row."""
    field, start = job.field, time.monotonic()
    status, message, sources, trace = "redone" if job.change else "made", job.change, None, ""
    with _naming_warnings(field.name):
        try:
            sources = _make(job, options, manager, executor, progress=progress)
        except Exception as error:
            status, message, trace = "failed", _describe(error), traceback.format_exc()
    bands = ", ".join(source.band for source in field.sources)
    seconds = round(time.monotonic() - start, 1)
    return _Outcome(
        field=field.name, status=status, sources=sources, bands=bands, seconds=seconds, message=message, trace=trace
    )


def _describe(error: Exception) -> str:
    """Return one line on why a field failed."""
    text = str(error)
    if not isinstance(error, PhotplugError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error}, in {Path(frame.filename).name}, line {frame.lineno}; this is a bug"
    return " ".join(text.split())


@contextmanager
def _naming_warnings(name: str) -> Iterator[None]:
    """Let warnings begin with the name of the field."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PhotplugWarning)
        yield
    for each in caught:
        if issubclass(each.category, PhotplugWarning):
            warnings.warn(f"{name}: {each.message}", PhotplugWarning, stacklevel=4)
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _make(
    job: _Job,
    options: Options,
    manager: pluggy.PluginManager,
    executor: Executor | None,
    *,
    progress: bool,
) -> int:
    """Measure a field, and put its files in their places; return how many sources it has."""
    field, output = job.field, job.output
    if (made := find_made(output, field.name, job.recipe, job.record)) is not None:
        return made.sources
    catalog, *segmentations = output.files(field.name)
    with Outputs() as outputs:
        own = replace(options, overwrite=job.overwrite)
        result = run(field.sources, own, manager=manager, executor=executor, progress=progress, keep_image=False)
        stack = outputs.moves()
        write_result(result.catalog, catalog, replace(options, overwrite=True), manager)
        for path in segmentations:
            header = result.detection.wcs.to_header()
            write_image(path, result.detection.segmentation, header, overwrite=True)
        written = [(staged, place) for staged, place in outputs.moves() if (staged, place) not in stack]
        _check_replaced([output.directory / place.name for _, place in written], job)
        sums = {place.name: sum_file(staged) for staged, place in written}
        made = Record(recipe=job.recipe, sources=len(result.catalog), outputs=sums)
        with whole_file(output.record(field.name), overwrite=True) as record:
            made.write(record)
    return len(result.catalog)


def _check_replaced(paths: Sequence[Path], job: _Job) -> None:
    """Refuse to replace files that a plugin wrote and nobody asked about before."""
    output = job.output
    record, asked = read_record(output.record(job.field.name)), output.files(job.field.name)
    for path in paths:
        known = path in asked or output.overwrite or not path.exists() or (record is not None and record.knows(path))
        if not known:
            raise PhotplugError(f"{path}: already exists; name another folder or add --overwrite")


def _sum_up(outcomes: Sequence[_Outcome]) -> Table:
    """Return the summary."""
    names = ("field", "status", "sources", "bands", "seconds", "message")
    columns = {name: [getattr(outcome, name) for outcome in outcomes] for name in names}
    counts = [count is None for count in columns["sources"]]
    sources = MaskedColumn([count or 0 for count in columns["sources"]], mask=counts, dtype=int)
    return Table(columns | {"sources": sources}, meta={"MADE_BY": MADE_BY})
