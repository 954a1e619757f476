"""What a survey would write, refused before its work where that cannot be, or two fields would write one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pluggy

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.files.parquet import need_pyarrow
from dja_photplug.files.tables.columns import check_names
from dja_photplug.outputs.run import follow_links
from dja_photplug.pipeline.catalog import list_stack
from dja_photplug.pipeline.many_bands import list_columns
from dja_photplug.plugins.options import catalog_suffixes
from dja_photplug.surveys.plan import Field
from dja_photplug.surveys.state import SurveyOutput, list_inputs

__all__ = ["MADE_BY", "SUMMARY", "check_fields"]

SUMMARY = "summary.ecsv"
MADE_BY = "dja-photplug survey"


def check_fields(fields: Sequence[Field], output: SurveyOutput, manager: pluggy.PluginManager) -> None:
    """Refuse, before the work, what could not be written.

    Parameters
    ----------
    fields : sequence of Field
    output : SurveyOutput
    manager : PluginManager

    Raises
    ------
    PhotplugError
        Where a catalogue is not written in that way, a file would be that of two fields, of the summary or of somebody
        else, or one of a field is read by another.
    """
    directory = output.directory
    if directory.exists() and not directory.is_dir():
        raise PhotplugError(f"{directory}: is a file, not a folder; name a folder for the catalogues")
    if output.suffix == ".parquet":
        need_pyarrow(output.catalog(fields[0].name))
    for field in fields:
        _check_format(field, output, manager)
    _check_apart(fields, output)
    path = directory / SUMMARY
    if path.exists() and not output.overwrite and MADE_BY not in path.read_text(encoding="utf-8", errors="replace"):
        raise PhotplugError(f"{path}: is not from a survey; name another folder or add --overwrite")


def _check_format(field: Field, output: SurveyOutput, manager: pluggy.PluginManager) -> None:
    """Refuse a catalogue that is not written as such."""
    options, name, suffix = field.options, field.name, output.suffix
    if options.output.format == "eazy":
        raise PhotplugError(
            f"option format: eazy needs a zphot.translate next to each catalogue, but field {name} would share one "
            "with others; write tables, and give each to `dja_photplug.write_eazy` in its own folder"
        )
    known = catalog_suffixes(manager, options.output.format)
    if not re.fullmatch(r"(\.\w+)+", suffix) or (known and suffix not in known):
        meant = suggest(suffix, known) or f"; give {', '.join(known or ('one, such as .fits',))}"
        raise PhotplugError(f"suffix {suffix!r}: no catalogue format has it{meant}")
    bands = [source.band for source in field.sources]
    check_names(output.catalog(name), list_columns(options, bands if len(bands) > 1 or options.bands.detect else []))


def _check_apart(fields: Sequence[Field], output: SurveyOutput) -> None:
    """Refuse files that two fields would write, or that one would write and another reads."""
    taken = {_place(output.directory / SUMMARY): "the summary"}
    read = {_place(path): field.name for field in reversed(fields) for path in list_inputs(field)}
    for field in fields:
        name, own = field.name, f"field {field.name}"
        stack = list_stack(field.sources, field.options)
        for path in (*output.files(name), output.record(name), *stack):
            advice = "name another folder for the stack (stack) of one" if path in stack else "rename the field"
            other = taken.setdefault(_place(path), own)
            if other != own:
                raise PhotplugError(f"{path}: {other} and {own} would write the same file; {advice}")
            reader = read.get(_place(path), name)
            if reader != name:
                raise PhotplugError(
                    f"{path}: {own} would write this file, field {reader} would read it, and their order is not "
                    "fixed; put them in two lists, and run one after the other"
                )


def _place(path: Path) -> str:
    """Return the name of a file wherever it is named from, also where case makes no difference."""
    return str(follow_links(path)).casefold()
