"""The metadata of a catalogue, with keys and values that FITS takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import TypeVar

from dja_photplug import __version__
from dja_photplug.options.stages import Options
from dja_photplug.units import ZERO_POINT

__all__ = ["encode_metadata", "make_metadata", "record_options"]

Plain = TypeVar("Plain")


def make_metadata(options: Options) -> dict[str, object]:
    """Return the metadata of a catalogue that follow from the options.

    Parameters
    ----------
    options : Options
        Of the run.

    Returns
    -------
    dict of str to object
        With keys that FITS takes: zero point, engine, aperture diameters (``ASEC_i``, arcsec), the radius of the
        smallest Kron aperture (``KRONCIRC``, arcsec), all options and the versions of the libraries (JSON text).
    """
    versions = {name: version(name) for name in ("astropy", "numpy", "sep", "photutils")}
    return {
        "ZEROPNT": ZERO_POINT,
        "ENGINE": options.engine,
        **{f"ASEC_{i}": diameter for i, diameter in enumerate(options.measure.apertures)},
        "KRONCIRC": options.measure.kron_circle,
        **encode_metadata({"OPTIONS": record_options(options), "VERSIONS": {"dja_photplug": __version__, **versions}}),
    }


def record_options(options: Options) -> dict[str, object]:
    """Return the options that a result depends on: all but how the work was divided.

    Parameters
    ----------
    options : Options

    Returns
    -------
    dict
        As of `Options.as_dict`, without the group ``tiles`` and the number of workers.
    """
    values = options.as_dict()
    del values["tiles"]
    bands = values["bands"]
    assert isinstance(bands, dict)
    return values | {"bands": {name: value for name, value in bands.items() if name != "workers"}}


def encode_metadata(values: Mapping[str, Plain | list[object] | dict[str, object]]) -> dict[str, Plain | str]:
    """Return metadata as FITS takes them.

    Parameters
    ----------
    values : mapping
        Numbers, texts, and lists and mappings of them.

    Returns
    -------
    dict
        The same keys; lists and mappings are JSON text.

    Examples
    --------
    >>> encode_metadata({"AR_RAD": [0.08, 0.1], "ENGINE": "sep"})
    {'AR_RAD': '[0.08, 0.1]', 'ENGINE': 'sep'}
    """
    return {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in values.items()}
