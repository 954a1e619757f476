"""The list of a survey: its fields, their bands from names and patterns, and the options of each."""

from __future__ import annotations

import glob
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pluggy

from dja_photplug.errors import PhotplugError, PhotplugWarning, suggest
from dja_photplug.files.names import ProductName, Source, band_name, is_mosaic_name, list_near
from dja_photplug.options.arguments import Layer, PluginStages, collect_options, list_places, read_layer, read_toml
from dja_photplug.options.bands import select_bands
from dja_photplug.options.run import STAGES, Options
from dja_photplug.pipeline.catalog import list_images
from dja_photplug.pipeline.images import Products, find_source
from dja_photplug.plugins.manager import has_plugins
from dja_photplug.plugins.options import complete_options, plugin_stages
from dja_photplug.surveys.given import Given

__all__ = ["Field", "make_fields", "read_fields"]

FIELDS, OPTIONS = "fields", "options"
BANDS, PATTERN = "bands", "pattern"
# How the fields are shared out, which one of them cannot say for all.
OF_ALL = (("bands", "workers"), ("tiles", "scheduler"))

_NAME = re.compile(r"\w(?:[\w.+-]*[\w+-])?")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """A field of a survey.

    Attributes
    ----------
    name : str
        Of its catalogue.
    sources : tuple of Source
        Its bands.
    images : tuple of Source
        All that are read: the bands, and what sources are detected on.
    options : Options
        Complete.
    given : Given or None
        What was given for them; None where they are from Python.
    """

    name: str
    sources: tuple[Source, ...]
    images: tuple[Source, ...]
    options: Options
    given: Given | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A field before it is known which bands the others have."""

    name: str
    place: str
    sources: tuple[Source, ...]
    options: Options
    given: Given | None = None

    @property
    def bands(self) -> set[str]:
        """The bands that options may name: its own, and that of a mosaic that sources are detected on."""
        detect = self.options.bands.detect
        return {source.band for source in self.sources} | ({band_name(detect.lower())} if detect else set())


def read_fields(
    path: Path,
    manager: pluggy.PluginManager,
    *,
    flags: Mapping[str, object] | None = None,
    config: Path | None = None,
    defaults: Options | None = None,
) -> list[Field]:
    """Read the list of a survey.

    Parameters
    ----------
    path : Path
        TOML: a table ``fields.NAME`` for each field, with ``bands``, a list of prefixes and member files, or
        ``pattern``, one or several of files, and with ``options`` of this field; and ``options`` of all. Names of files
        are relative to its folder.
    manager : PluginManager
    flags : mapping of str to object, optional
        Options by ``stage.option``, which win over all others.
    config : Path, optional
        A TOML file of options, over which those of the list win.
    defaults : Options, optional
        What holds where nobody says something.

    Returns
    -------
    list of Field
        In the order of the list.

    Raises
    ------
    PhotplugError
        For whatever is wrong with the list: the message has the place in it.
    """
    content = read_toml(path, "the list of fields")
    stages = plugin_stages(manager)
    groups = {**STAGES, **stages}
    places = {FIELDS: f"[{FIELDS}.NAME]", OPTIONS: f"[{OPTIONS}]"}
    _check_keys(path, "", content, places, list_places(groups, OPTIONS))
    fields = _take_table(path, content, FIELDS, FIELDS)
    if not fields:
        raise PhotplugError(f"{path}: lists no fields; add a table [{FIELDS}.NAME] with {BANDS} or {PATTERN} for each")
    every = read_layer(path, _take_table(path, content, OPTIONS, OPTIONS), groups, OPTIONS, path.parent)
    drafts = []
    for name in fields:
        _check_name(name, f"{path}: ")
        place = f"{FIELDS}.{name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)}"
        table = _take_table(path, fields, name, place)
        keys = {key: key for key in (BANDS, PATTERN, OPTIONS)}
        _check_keys(path, place, table, keys, list_places(groups, f"{place}.{OPTIONS}"))
        own = _read_own(path, table, f"{place}.{OPTIONS}", groups)
        options = collect_options(flags or {}, config, defaults, stages, [every, own])
        sources = []
        with _naming(f"{path}: [{place}]"):
            sources += [find_source(text, manager) for text in _list_products(table, path.parent, manager)]
        given = Given(flags=frozenset(flags or {}), every=every, own=own)
        drafts.append(
            _Draft(name=name, place=f"{path}: [{place}]", sources=tuple(sources), options=options, given=given)
        )
    return _finish(drafts, manager)


def make_fields(
    fields: Mapping[str, Sequence[Products]], options: Options, manager: pluggy.PluginManager
) -> list[Field]:
    """Return the fields of a survey that share their options.

    Parameters
    ----------
    fields : mapping of str to sequence
        Bands by the name of the field.
    options : Options
        Values of a band are for the fields that have it.
    manager : PluginManager

    Returns
    -------
    list of Field

    Raises
    ------
    PhotplugError
        Where a name is none of a file, or a field is not as :func:`dja_photplug.run` wants it.
    """
    drafts = []
    for name, products in fields.items():
        _check_name(name)
        with _naming(f"field {name}"):
            sources = tuple(find_source(each, manager) for each in products)
        drafts.append(_Draft(name=name, place=f"field {name}", sources=sources, options=options))
    if not drafts:
        raise PhotplugError("the survey has no fields; give at least one")
    return _finish(drafts, manager)


def _finish(drafts: Sequence[_Draft], manager: pluggy.PluginManager) -> list[Field]:
    """Return the fields with values of bands for those that have them, each checked as a run would do it."""
    every = set().union(*(draft.bands for draft in drafts))
    fields = []
    for draft in drafts:
        with _naming(draft.place):
            options, left = select_bands(draft.options, draft.bands, draft.given.alone if draft.given else ())
        for option, band in sorted(left):
            if band not in every:
                raise PhotplugError(
                    f"option {option.partition('.')[2]}: no field has the band {band}{suggest(band, every) or '; '}"
                    f"{'' if suggest(band, every) else 'there are ' + ', '.join(sorted(every))}"
                )
        options = complete_options(options, manager)
        with _naming(draft.place), warnings.catch_warnings():
            warnings.simplefilter("ignore", PhotplugWarning)  # they come when the field is measured
            # A stack may be there from last time; one that may not be replaced is told then too.
            images = list_images(draft.sources, replace(options, overwrite=True), manager)
        fields.append(
            Field(name=draft.name, sources=draft.sources, images=tuple(images), options=options, given=draft.given)
        )
    return fields


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Let an error begin with the place in the list that it is about."""
    try:
        yield
    except PhotplugError as error:
        named = PhotplugError(f"{place}: {error}")
        named.plugin = error.plugin
        raise named from error


def _check_name(name: str, where: str = "") -> None:
    """Refuse what is no name of a file everywhere."""
    if not _NAME.fullmatch(name):
        raise PhotplugError(
            f"{where}field {name!r}: its catalogue cannot have this name; use letters, digits and _, with . + - inside"
        )


def _take_table(path: Path, content: Mapping[str, object], key: str, place: str) -> dict[str, object]:
    """Return a table; empty where there is none."""
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise PhotplugError(f"{path}: {place} = {table!r} is not a table; write it as [{place}]")
    return table


def _check_keys(
    path: Path,
    place: str,
    table: Mapping[str, object],
    known: Mapping[str, str],
    elsewhere: Mapping[str, str],
) -> None:
    """Refuse keys that a table of the list does not have; offer the nearest one, of options too."""
    for key in table:
        if key not in known:
            what, kind = f"[{place}] {key}" if place else key, "table" if isinstance(table[key], dict) else "key"
            meant = suggest(key, {**elsewhere, **known})
            if not meant and place and isinstance(table[key], dict):
                meant = f"; put a name with dots in quotes: [{FIELDS}.'{place.partition('.')[2]}.{key}']"
            raise PhotplugError(f"{path}: unknown {kind} {what}; known: {', '.join(known.values())}{meant}")


def _read_own(path: Path, table: Mapping[str, object], prefix: str, groups: PluginStages) -> Layer:
    """Return the options of one field."""
    own = read_layer(path, _take_table(path, table, OPTIONS, prefix), groups, prefix, path.parent)
    for group, option in OF_ALL:
        if option in own.values.get(group, {}):
            raise PhotplugError(
                f"{path}: {own.name(group, option)} applies to the whole survey, not to one field; give it in "
                f"[{OPTIONS}.{group}] or with its flag"
            )
    return own


def _list_products(table: Mapping[str, object], folder: Path, manager: pluggy.PluginManager) -> list[str]:
    """Return what names the bands of a field."""
    products = [_place_product(text, folder, manager) for text in _take_texts(table, BANDS)]
    patterns = table.get(PATTERN, [])
    products += _expand([patterns] if isinstance(patterns, str) else _take_texts(table, PATTERN), folder)
    if not products:
        raise PhotplugError(
            f"the field has no bands; give {BANDS}, a list of mosaic prefixes, or {PATTERN}, a file pattern"
        )
    return products


def _take_texts(table: Mapping[str, object], key: str) -> list[str]:
    texts = table.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise PhotplugError(f"{key} = {texts!r} is not a list of strings; write it as {key} = ['folder/name']")
    return texts


def _place_product(text: str, folder: Path, manager: pluggy.PluginManager) -> str:
    """Return a name in the list with its folder; but what only a plugin can find as it is."""
    path = folder / Path(text).expanduser()
    is_file = is_mosaic_name(text) or path.exists() or not has_plugins(manager, "photplug_find", "photplug_load")
    return str(path) if is_file and "://" not in text else text


def _expand(patterns: Sequence[str], folder: Path) -> list[str]:
    """Return the mosaics that patterns match a file of, each once."""
    members: dict[tuple[str, str], list[Path]] = {}
    for path in dict.fromkeys(path for pattern in patterns for path in _match(pattern, folder)):
        name = ProductName.parse(path.name)
        key = str(path.parent / name.mosaic) if name else str(path)
        members.setdefault((key, name.drizzle if name else ""), []).append(path)
    images = {mosaic for mosaic, drizzle in members if drizzle}
    return [
        # One file says which is meant, of several a prefix chooses.
        str(paths[0]) if len(paths) == 1 else f"{mosaic}_{drizzle}"
        for (mosaic, drizzle), paths in members.items()
        if drizzle or mosaic not in images
    ]


def _match(pattern: str, folder: Path) -> list[Path]:
    """Return the files of a pattern, by the numbers of their bands."""
    place = Path(pattern).expanduser()
    whole = place if place.is_absolute() else Path(glob.escape(str(folder))) / place
    matches = sorted(glob.glob(str(whole), recursive=True), key=_by_number)
    if not matches:
        there = "" if glob.has_magic(str(place.parent)) else f"; {list_near(folder / place)}"
        raise PhotplugError(f"{PATTERN} {pattern!r} matches no file{there or '; correct it'}")
    return [Path(name) for name in matches]


def _by_number(text: str) -> list[str | int]:
    """Return a key that sorts f444w before f1000w."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", text))]
