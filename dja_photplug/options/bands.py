"""What belongs to a band: values by the names of bands, and a bare value of the only one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from dja_photplug.errors import PhotplugError, suggest
from dja_photplug.options.declare import Stage, declarations
from dja_photplug.options.run import STAGES, Options

__all__ = ["of_band", "select_bands", "settle_bands", "settle_values"]

S = TypeVar("S", bound=Stage)
T = TypeVar("T")


def settle_values(name: str, values: Mapping[str, T], bands: Sequence[str]) -> dict[str, T]:
    """Return values by the bands that there are.

    Parameters
    ----------
    name : str
        Of the option, for the message.
    values : mapping of str to object
        By band; a bare one has the name ``""``.
    bands : sequence of str
        Names in catalogue columns; that of an image without a band is empty.

    Returns
    -------
    dict
        A bare value has the name of the only band.

    Raises
    ------
    PhotplugError
        For a band that is not there, and for a bare value where there are several.

    Examples
    --------
    >>> settle_values("zero_point", {"": 28.0}, ["f444w"])
    {'f444w': 28.0}
    """
    if "" in values and len(bands) > 1:
        some = f"{bands[0]}={values['']}"
        raise PhotplugError(
            f"option {name}: {values['']} is the value of one band, but there are {', '.join(bands)}; name the band, "
            f"such as {some}"
        )
    known = ", ".join(bands)
    for band in values:
        if band and band not in bands:
            what = f"is not one of the bands {known}" if known else "names a band, but the image has none"
            raise PhotplugError(f"option {name}: {band} {what}{suggest(band, bands) or '; give one'}")
    return {band or bands[0]: value for band, value in values.items()}


def settle_bands(options: Options, bands: Sequence[str]) -> Options:
    """Return options in which what belongs to a band has the name of one that is there.

    Parameters
    ----------
    options : Options
        Also those of plugins.
    bands : sequence of str
        Of all images, as their columns have them; that of an image without a band is empty.

    Returns
    -------
    Options
        In which each bare value is that of the only band.

    Raises
    ------
    PhotplugError
        As :func:`settle_values`.
    """
    stages = {name: _settle_stage(getattr(options, name), bands) for name in STAGES}
    plugins = {name: _settle_stage(stage, bands) for name, stage in options.plugins.items()}
    return replace(options, **stages, plugins=plugins)


def of_band(stage: S, band: str) -> S:
    """Return a group of options with one value, or None, where it has one for each band.

    Parameters
    ----------
    stage : Stage
        Settled by :func:`settle_bands`.
    band : str
        Its name in catalogue columns; empty where it has none.

    Returns
    -------
    Stage
        Of the same class.
    """
    values = {name: getattr(stage, name) for name, declaration in declarations(stage) if declaration["optional"]}
    single: dict[str, object] = {name: value.get(band) for name, value in values.items() if isinstance(value, Mapping)}
    return replace(stage, **single) if single else stage


def select_bands(
    options: Options, bands: Collection[str], keep: Collection[str] = ()
) -> tuple[Options, set[tuple[str, str]]]:
    """Return options for one of several fields, without the values of bands that it does not have.

    Parameters
    ----------
    options : Options
        Given for all of the fields.
    bands : collection of str
        Those of this one.
    keep : collection of str
        Options that are of this field alone, ``stage.option``: their values stay as they are.

    Returns
    -------
    options : Options
    left : set of tuple
        ``stage.option`` and band of each value that was left out.
    """
    left: set[tuple[str, str]] = set()

    def select(group: str, stage: S) -> S:
        selected: dict[str, object] = {}
        for name, declaration in declarations(stage):
            values = getattr(stage, name)
            if isinstance(values, Mapping) and f"{group}.{name}" not in keep:
                own = {band: value for band, value in values.items() if not band or band in bands}
                left.update((f"{group}.{name}", band) for band in values if band not in own)
                selected[name] = own or (None if declaration["optional"] else own)
        return replace(stage, **selected)

    stages = {name: select(name, getattr(options, name)) for name in STAGES}
    plugins = {name: select(name, stage) for name, stage in options.plugins.items()}
    return replace(options, **stages, plugins=plugins), left


def _settle_stage(stage: S, bands: Sequence[str]) -> S:
    changed: dict[str, object] = {}
    for name, declaration in declarations(stage):
        value = getattr(stage, name)
        if declaration["by_band"] and value is not None:
            values = settle_values(name, value if isinstance(value, Mapping) else {"": value}, bands)
            # Where nothing else is to be told, a bare value stays as it was given.
            changed |= {name: values} if isinstance(value, Mapping) else {}
    return replace(stage, **changed) if changed else stage
