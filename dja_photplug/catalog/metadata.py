"""The metadata of a catalogue and of its columns, with keys and values that FITS takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import TypeVar

from astropy import units as u

from dja_photplug import __version__
from dja_photplug.errors import PhotplugError
from dja_photplug.files.formats import decode_text
from dja_photplug.options.run import Options

__all__ = ["encode_metadata", "find_ucd", "make_metadata", "read_bands", "record_options"]

Plain = TypeVar("Plain")

_UCDS = {
    "id": "meta.id;meta.main",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "x": "pos.cartesian.x;instr.det",
    "y": "pos.cartesian.y;instr.det",
    "x_iso": "pos.cartesian.x;instr.det",
    "y_iso": "pos.cartesian.y;instr.det",
    "a": "phys.angSize.smajAxis",
    "b": "phys.angSize.sminAxis",
    "theta": "pos.posAng;instr.det",
    "npix": "meta.number;instr.pixel",
    "snr_detect": "stat.snr",
    "kron_radius": "phys.angSize;arith.ratio",
    "flux_radius": "phys.angSize",
    "flux": "phot.flux.density",
    "fluxerr": "stat.error;phot.flux.density",
    "corr": "phot.flux.density",
    "ecorr": "stat.error;phot.flux.density",
    "tot": "phot.flux.density",
    "etot": "stat.error;phot.flux.density",
    "mag": "phot.mag",
    "magerr": "stat.error;phot.mag",
    "flag": "meta.code",
    "mask_frac": "meta.code.qual;arith.ratio",
    "mask": "meta.number;instr.pixel",
    "thresh": "phot.flux.density;stat.min",
    "tnpix": "meta.number;instr.pixel",
    **{f"{axis}{end}": f"pos.cartesian.{axis};stat.{end}" for axis in "xy" for end in ("min", "max")},
    **{f"{axis}{end}": f"pos.cartesian.{axis};instr.det" for axis in "xy" for end in ("cpeak", "peak")},
    **dict.fromkeys(("errx2", "erry2", "errxy"), "stat.variance;instr.det"),
    **dict.fromkeys(("cflux", "cpeak", "peak"), "phot.flux.density"),
    "kron_rcirc": "phys.angSize",
    "flux_radius_flag": "meta.code",
    "depth5": "phot.mag;stat.max",
    "bkg": "phot.flux.density;instr.background",
    "contam": "phot.flux.density;arith.ratio",
    "n_exp": "meta.number;obs.exposure",
    "exptime": "time.duration;obs.exposure",
    "mjd_mean": "time.epoch;stat.mean",
    "mjd_min": "time.start",
    "mjd_max": "time.end",
    "n_visit": "meta.number;obs",
    "visits": "meta.id;obs",
    "detectors": "meta.id;instr.det",
    "programs": "meta.id;obs.proposal",
    "gap_max": "time.interval",
    "bmjd_mean": "time.epoch;stat.mean",
    "edge_dist": "pos.angDistance;instr.det",
}


def find_ucd(name: str) -> str:
    """Return what tools of the Virtual Observatory know a column by.

    Parameters
    ----------
    name : str
        Without its band; that of an aperture with its number, or ``{i}``.

    Returns
    -------
    str
        Empty where there is none, as of columns that hold arrays.

    Examples
    --------
    >>> find_ucd("fluxerr_aper_2"), find_ucd("mag_auto"), find_ucd("visit_mjd")
    ('stat.error;phot.flux.density', 'phot.mag', '')
    """
    return _UCDS.get(name) or _UCDS.get(re.sub(r"(_(auto|iso|total|aper))?(_(\d+|\{i\}))?$", "", name), "")


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
        "ZEROPNT": round(u.Quantity(1, options.output.flux_unit).to_value(u.ABmag), 6),
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


def read_bands(meta: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return what the metadata of a catalogue say of each band.

    Parameters
    ----------
    meta : mapping
        As :func:`encode_metadata` made them.

    Returns
    -------
    dict of str to mapping
        By the name of the band; of the only one under an empty name. Empty where they tell of no mosaic.

    Raises
    ------
    PhotplugError
        Where what they say of a band cannot be read.

    Examples
    --------
    >>> read_bands({"BAND_0": '{"band": "f444w", "INPUT": "uds-f444w-clear"}'})
    {'f444w': {'band': 'f444w', 'INPUT': 'uds-f444w-clear'}}
    """
    bands: dict[str, Mapping[str, object]] = {}
    for key, text in meta.items():
        if re.fullmatch(r"BAND_\d+", key):
            try:
                band = json.loads(str(decode_text(text)))
                bands[str(band["band"])] = band
            except (ValueError, TypeError, KeyError):
                raise PhotplugError(
                    f"cannot read the metadata {key} of the catalogue; give the catalogue as it was written"
                ) from None
    if bands or "INPUT" not in meta:
        return bands
    # The lists of the only band are JSON text.
    return {"": {key: json.loads(str(text)) if str(text).startswith("[") else text for key, text in meta.items()}}
