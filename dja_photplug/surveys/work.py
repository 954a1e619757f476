"""One field of a survey: what is to be done for it, and the doing of it; an error is a row of the summary."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pluggy

from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.written import write_image
from dja_photplug.options.run import Options
from dja_photplug.outputs.run import Outputs
from dja_photplug.outputs.whole import whole_file
from dja_photplug.pipeline.catalog import run
from dja_photplug.pipeline.one_band import write_result
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.surveys.plan import Field
from dja_photplug.surveys.state import (
    Recipe,
    Record,
    SurveyOutput,
    find_change,
    find_made,
    make_recipe,
    read_record,
    sum_file,
    working_in,
)

__all__ = ["Job", "Outcome", "do_apart", "do_field", "plan_field"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A field that is to be measured.

    Attributes
    ----------
    field : Field
    output : SurveyOutput
    recipe : Recipe
        All that its catalogue will depend on.
    record : Record or None
        What is known of the catalogue that there is.
    change : str
        Why it is made again; empty where it is new.
    overwrite : bool
        Whether a stack of last time is replaced.
    """

    field: Field
    output: SurveyOutput
    recipe: Recipe
    record: Record | None
    change: str
    overwrite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A row of the summary.

    Attributes
    ----------
    field, status : str
    sources : int or None
        None where the field failed.
    bands : str
    seconds : float
    message : str
    trace : str
        The traceback where there is one.
    """

    field: str
    status: str
    sources: int | None
    bands: str
    seconds: float
    message: str
    trace: str = ""


def plan_field(field: Field, output: SurveyOutput, manager: pluggy.PluginManager) -> Job | Outcome:
    """Return what is to be done for a field, or its row where it is complete.

    Parameters
    ----------
    field : Field
    output : SurveyOutput
    manager : PluginManager

    Returns
    -------
    Job or Outcome

    Raises
    ------
    PhotplugError
        Where a file is in the way that is not of this survey, or was changed since.
    """
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
            return Outcome(
                field=name, status="skipped", sources=record.sources, bands=bands, seconds=0.0, message=changed
            )
    if unknown and not output.overwrite:
        whose = "is not of this survey" if record is None else "was changed since the survey wrote it"
        raise PhotplugError(f"{unknown[0]}: already exists and {whose}; name another folder or add --overwrite")
    overwrite = output.overwrite or (record is not None and _stack_of(record.recipe) == _stack_of(recipe))
    return Job(field=field, output=output, recipe=recipe, record=record, change=change or "", overwrite=overwrite)


def _stack_of(recipe: Recipe) -> object:
    bands = recipe.options.get("bands")
    return bands.get("stack") if isinstance(bands, dict) else None


def _find_missing(record: Record, files: Iterable[Path]) -> str | None:
    """Return what is not there of a field."""
    missing = (path.name for path in files if not path.exists() or path.name not in record.outputs)
    return next((f"{name} was not there" for name in missing), None)


def do_apart(place: Path | None, job: Job) -> Outcome:
    """Measure a field whole, without other processes.

    Parameters
    ----------
    place : Path or None
        Where names of files begin.
    job : Job

    Returns
    -------
    Outcome
    """
    options = job.field.options
    alone = replace(options, bands=replace(options.bands, workers=1), tiles=replace(options.tiles, scheduler=None))
    with working_in(place):
        return do_field(job, alone, get_plugin_manager())


def do_field(
    job: Job,
    options: Options,
    manager: pluggy.PluginManager,
    executor: Executor | None = None,
    *,
    progress: bool = False,
) -> Outcome:
    """Measure a field and write its catalogue.

    Parameters
    ----------
    job : Job
    options : Options
        Those of the field, but for who does the work.
    manager : PluginManager
    executor : Executor, optional
        Whose workers do the tiles of large images.
    progress : bool, optional
        Show a progress bar where stderr is a terminal.

    Returns
    -------
    Outcome
        An error is in it.
    """
    field, start = job.field, time.monotonic()
    status, message, sources, trace = "redone" if job.change else "made", job.change, None, ""
    with _naming_warnings(field.name):
        try:
            sources = _make(job, options, manager, executor, progress=progress)
        except Exception as error:  # of one field, whatever it is: others go on, and its traceback is kept
            status, message, trace = "failed", _describe(error), traceback.format_exc()
    bands = ", ".join(source.band for source in field.sources)
    seconds = round(time.monotonic() - start, 1)
    return Outcome(
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
    job: Job,
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


def _check_replaced(paths: Sequence[Path], job: Job) -> None:
    """Refuse to replace files that a plugin wrote and nobody asked about before."""
    output = job.output
    record, asked = read_record(output.record(job.field.name)), output.files(job.field.name)
    for path in paths:
        known = path in asked or output.overwrite or not path.exists() or (record is not None and record.knows(path))
        if not known:
            raise PhotplugError(f"{path}: already exists; name another folder or add --overwrite")
