"""Where a catalogue of a survey goes, and beside it what it was made of: whether it is complete, what has changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pluggy

from dja_photplug import __version__
from dja_photplug.catalog.metadata import record_options
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import IMAGE_SUFFIXES
from dja_photplug.files.names import Source
from dja_photplug.options.declare import Stage, declarations
from dja_photplug.options.run import STAGES, Options
from dja_photplug.outputs.moves import mend
from dja_photplug.plugins.manager import BUILTINS, describe_plugins
from dja_photplug.remote.paths import absolute_path
from dja_photplug.surveys.plan import Field

__all__ = [
    "Recipe",
    "Record",
    "SurveyOutput",
    "find_change",
    "find_made",
    "list_inputs",
    "make_recipe",
    "read_record",
    "record_name",
    "sum_file",
    "working_directory",
    "working_in",
]

# Hooks that have no part in what a catalogue holds.
_BESIDE = {"photplug_register_commands", "photplug_options"}
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyOutput:
    """Where the catalogues of a survey go, and which are made again.

    Attributes
    ----------
    directory : Path
        Made if it is not there.
    suffix : str
        Of the catalogues, which is that of their format.
    segmentations : bool
        Write ``NAME_seg.fits.gz`` too.
    redo : bool
        Make all again.
    overwrite : bool
        Replace catalogues that are not of this survey, or were changed since.
    """

    directory: Path
    suffix: str = ".fits"
    segmentations: bool = False
    redo: bool = False
    overwrite: bool = False

    def catalog(self, name: str) -> Path:
        """Return the catalogue of a field.

        Parameters
        ----------
        name : str

        Returns
        -------
        Path
        """
        return self.directory / f"{name}{self.suffix}"

    def files(self, name: str) -> list[Path]:
        """Return what is written of a field: the catalogue first.

        Parameters
        ----------
        name : str

        Returns
        -------
        list of Path
        """
        more = [self.directory / f"{name}_seg{IMAGE_SUFFIXES[-1]}"] if self.segmentations else []
        return [self.catalog(name), *more]

    def record(self, name: str) -> Path:
        """Return what keeps the state of a field.

        Parameters
        ----------
        name : str

        Returns
        -------
        Path
        """
        return self.directory / record_name(self.catalog(name).name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a catalogue depends on.

    Attributes
    ----------
    version : str
        Of this package.
    plugins : dict of str to str
        Distribution and version of each plugin of others that has a say, by its name; those that are blocked.
    options : dict
        As `dja_photplug.catalog.metadata.record_options` gives them, with absolute names of files.
    bands : list of str
        The mosaics, in the order of their columns.
    inputs : dict of str to list of int
        Size in bytes and time of the last change in ns of each file, by its absolute name.
    """

    version: str
    plugins: dict[str, str]
    options: dict[str, object]
    bands: list[str]
    inputs: dict[str, list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a catalogue that was made.

    Attributes
    ----------
    recipe : Recipe
    sources : int
        Rows.
    outputs : dict of str to str
        Checksum of each file, by its name in the folder.
    """

    recipe: Recipe
    sources: int
    outputs: dict[str, str]

    def write(self, path: Path) -> None:
        """Write the record as JSON.

        Parameters
        ----------
        path : Path
        """
        values = {"made_by": "dja-photplug survey", **dataclasses.asdict(self)}
        path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def knows(self, path: Path) -> bool:
        """Return whether a file is one that the survey has written, and nobody changed.

        Parameters
        ----------
        path : Path
            That exists.

        Returns
        -------
        bool
        """
        return sum_file(path) == self.outputs.get(path.name)


def record_name(catalog: str) -> str:
    """Return the name of the record of a catalogue.

    Parameters
    ----------
    catalog : str
        With its suffix, as catalogues of other formats are others.

    Returns
    -------
    str
    """
    return f"{catalog}.json"


def sum_file(path: Path) -> str:
    """Return a checksum of a file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        SHA-1, which is there to see changes, not to keep secrets.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def read_record(path: Path) -> Record | None:
    """Read the record of a catalogue.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Record or None
        None where there is none.

    Raises
    ------
    PhotplugError
        Where the file is none of a survey.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        made_by = values.pop("made_by")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        made_by = None
    if made_by is None:
        raise PhotplugError(f"{path}: is not the state file of a survey, which would have this name; move it away")
    # Another version may have kept other things: then the catalogue is made again for its version.
    kept = values.get("recipe", {})
    recipe = Recipe(
        version=kept.get("version", "unknown"),
        plugins=kept.get("plugins", {}),
        options=kept.get("options", {}),
        bands=kept.get("bands", []),
        inputs=kept.get("inputs", {}),
    )
    return Record(
        recipe=recipe,
        sources=values.get("sources", 0),
        outputs=values.get("outputs", {}),
    )


def working_directory() -> Path | None:
    """Return the folder in which names of files begin.

    Returns
    -------
    Path or None
        None where it is no more: then all of them are absolute, or nobody finds them.
    """
    with suppress(FileNotFoundError):
        return Path.cwd()
    return None


@contextmanager
def working_in(place: Path | None) -> Iterator[None]:
    """Let names of files begin in a folder, in a worker that began elsewhere.

    Parameters
    ----------
    place : Path or None
        From :func:`working_directory`. One that the worker does not see is passed over: the files are told, then.

    Yields
    ------
    None
    """
    if place in (None, working_directory()) or not place.is_dir():
        yield
        return
    with chdir(place):
        yield


def find_made(output: SurveyOutput, name: str, recipe: Recipe, before: Record | None) -> Record | None:
    """Return the record of a field that was made meanwhile: whoever did it ended before that was known.

    Parameters
    ----------
    output : SurveyOutput
    name : str
        Of the field.
    recipe : Recipe
        Of which it is to be made.
    before : Record or None
        What there was before.

    Returns
    -------
    Record or None
        None where it is still to be made.
    """
    mend(output.directory)  # it may have ended while files took their places
    record = read_record(output.record(name))
    if record is None or record == before or find_change(record.recipe, recipe) is not None:
        return None
    return record if all(path.exists() and record.knows(path) for path in output.files(name)) else None


def make_recipe(field: Field, manager: pluggy.PluginManager) -> Recipe:
    """Return all that the catalogue of a field depends on, as it is now.

    Parameters
    ----------
    field : Field
    manager : PluginManager

    Returns
    -------
    Recipe
    """
    plugins = {name: origin for name, origin, hooks in describe_plugins(manager) if _has_say(name, origin, hooks)}
    inputs = {str(path): _describe_file(path) for path in list_inputs(field)}
    options = _plain_options(field.options)
    bands = [source.name for source in field.sources]
    return Recipe(version=__version__, plugins=plugins, options=options, bands=bands, inputs=inputs)


def list_inputs(field: Field) -> list[Path]:
    """Return the files that a field is made of.

    Parameters
    ----------
    field : Field

    Returns
    -------
    list of Path
        Absolute, sorted: those of its images, and those that its options name.
    """
    paths = {absolute_path(path) for image in field.images for path in _list_files(image)}
    paths |= {absolute_path(text) for _, _, text in _name_files(field.options)}
    return sorted(path for path in paths if path.is_file())


def _has_say(name: str, origin: str, hooks: Sequence[str]) -> bool:
    """Return whether a catalogue depends on a plugin; on a built-in one it does where that is blocked."""
    if origin == "blocked":
        return not name.startswith("command-")
    return name not in BUILTINS and bool(set(hooks) - _BESIDE)


def _describe_file(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _list_files(source: Source) -> Iterator[Path]:
    """Yield the files that a source carries; one of a plugin may be found by its name alone."""
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, Path):
                yield each
    yield Path(str(source))


def _name_files(options: Options) -> Iterator[tuple[str, str, str]]:
    """Yield group, name and text of the options that name files."""
    groups: dict[str, Stage] = {name: getattr(options, name) for name in STAGES} | dict(options.plugins)
    for group, stage in groups.items():
        for name, declaration in declarations(stage):
            value = getattr(stage, name)
            if declaration["path"] and value:
                for text in value.values() if isinstance(value, Mapping) else (value,):
                    yield group, name, text


def _plain_options(options: Options) -> dict[str, object]:
    """Return the options as JSON gives them back; files have the same name wherever one stands."""
    values = record_options(options)
    for group, name, _ in _name_files(options):
        table = values.get(group)
        if isinstance(table, dict) and name in table:
            given = table[name]
            absolute = (
                {key: os.path.abspath(text) for key, text in given.items()}
                if isinstance(given, dict)
                else os.path.abspath(given)
            )
            values[group] = table | {name: absolute}
    plain: dict[str, object] = json.loads(json.dumps(values))
    return plain


def find_change(old: Recipe, new: Recipe) -> str | None:
    """Return why a catalogue is to be made again.

    Parameters
    ----------
    old, new : Recipe
        What it was made of, and what there is now.

    Returns
    -------
    str or None
        On one line; None where nothing has changed.
    """
    if old.version != new.version:
        return f"made by dja_photplug {old.version}, this is {new.version}"
    if old.plugins != new.plugins:
        return f"other plugins: {_compare(old.plugins, new.plugins)}"
    if old.options != new.options:
        return f"other options: {_compare(_flatten(old.options), _flatten(new.options))}"
    if old.inputs != new.inputs:
        names = {path: Path(path).name for path in (*old.inputs, *new.inputs)}
        same = len(set(names.values())) == len(names)
        return f"other files: {_compare(old.inputs, new.inputs, names if same else None)}"
    if old.bands != new.bands:
        return f"other bands: {', '.join(new.bands)}"
    return None


def _flatten(options: Mapping[str, object]) -> dict[str, object]:
    groups = {name: value if isinstance(value, dict) else {"": value} for name, value in options.items()}
    return {f"{group}.{name}".rstrip("."): value for group, table in groups.items() for name, value in table.items()}


def _compare(old: Mapping[str, object], new: Mapping[str, object], names: Mapping[str, str] | None = None) -> str:
    """Return which values are others, new or gone, the first of them by name."""
    found = []
    for key in dict.fromkeys([*new, *old]):
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            how = "" if key in old and key in new else " is new" if key in new else " is gone"
            found.append(f"{(names or {}).get(key, key)}{how}")
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
