"""Segmentation images that are not those of the catalogue, or of the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from numpy.typing import NDArray

from dja_photplug.cli.app import main
from tests.inputs.cases import Case, Outcome
from tests.inputs.headers import PREFIX

Labels = NDArray[np.integer]
Change = Callable[[Labels, fits.Header], object]

CATALOG = f"catalog {PREFIX} -o out.fits --noise dja --use-segmentation seg.fits"
GALFIT = f"galfit {PREFIX} --catalog cat.fits --id 5 -o out --use-segmentation seg.fits"
EXTEND = f"extend cat.fits {PREFIX} -o out.fits --noise dja --use-segmentation seg.fits --apertures 0.9"


@cache
def detect(prefix: Path) -> tuple[bytes, bytes]:
    """Return the files of a catalogue and its segmentation, the same for all copies of the simulated mosaic."""
    with TemporaryDirectory() as folder:
        words = f"catalog {prefix} -o {folder}/cat.fits --segmentation {folder}/seg.fits --noise dja --quiet"
        assert main(words.split()) == 0
        return Path(folder, "cat.fits").read_bytes(), Path(folder, "seg.fits").read_bytes()


FILES: list[tuple[bytes, bytes]] = []


def change_segments(folder: Path, change: Change) -> None:
    """Write catalogue and segmentation, the latter changed: `change` gets labels and header, and may return others."""
    if not FILES:  # of the first copy; all are the same
        FILES.append(detect(folder / PREFIX))
    for name, content in zip(("cat.fits", "seg.fits"), FILES[0], strict=True):
        (folder / name).write_bytes(content)
    labels, header = fits.getdata(folder / "seg.fits", header=True)
    changed = change(labels.astype(np.int32), header)
    fits.writeto(folder / "seg.fits", labels if changed is None else changed, header, overwrite=True)


def keep(labels: Labels, header: fits.Header) -> None:
    """Change nothing."""


def move(labels: Labels, header: fits.Header, arcsec: float) -> None:
    """Say that the segments lie elsewhere."""
    header["CRVAL2"] += arcsec / 3600


def strip(labels: Labels, header: fits.Header) -> Labels:
    """Leave out the WCS and some columns."""
    header.clear()
    return labels[:, :-7]


def spoil_pixel(labels: Labels, header: fits.Header, value: float) -> NDArray[np.float32]:
    """Put a value into one pixel."""
    pixels = labels.astype(np.float32)
    pixels[10, 10] = value
    return pixels


def spoil_card(labels: Labels, header: fits.Header) -> None:
    """Write text where the WCS has a number."""
    header["CRVAL1"] = "here"


def reaches_a_part(labels: Labels, header: fits.Header) -> Labels:
    """Cut the segmentation in two."""
    return labels[:, : labels.shape[1] // 2]


def is_measured(folder: Path) -> None:
    """See the sources of the catalogue measured in their own segments."""
    ours, theirs = (QTable.read(folder / f"{name}.fits") for name in ("out", "cat"))
    assert ours["id"].tolist() == theirs["id"].tolist()
    np.testing.assert_allclose(ours["flux_aper_1"].value, theirs["flux_aper_1"].value, rtol=0.02, atol=0.01)


def target_is_free(folder: Path) -> None:
    """See the light of the target unmasked."""
    mask, science = (fits.getdata(folder / f"out/5_{kind}.fits") for kind in ("mask", "sci"))
    middle = tuple(slice(n // 2 - 2, n // 2 + 3) for n in mask.shape)
    assert not mask[middle].any()
    assert science[middle].max() == science.max()


def rows(
    name: str, command: str, given: str, change: Change, *says: str, outcome: Outcome = "refused",
    check: Callable[[Path], object] | None = None,
) -> Case:  # fmt: skip
    """Return a case of a command."""
    prepare = partial(change_segments, change=change)
    kind = f"Segmentations for `{name}`"
    return Case(kind=kind, given=given, command=command, outcome=outcome, says=says, prepare=prepare, check=check)


def shuffle(labels: Labels, header: fits.Header) -> Labels:
    """Return the segments of another field, on this grid."""
    return np.roll(labels, (50, 0), (0, 1))


def renumber(labels: Labels, header: fits.Header) -> Labels:
    """Return the segments with the ids of others."""
    return np.where(labels > 0, labels.max() + 1 - labels, 0).astype(np.int32)


def add_thousand(labels: Labels, header: fits.Header) -> Labels:
    """Return the segments with ids that the catalogue does not have."""
    return np.where(labels > 0, labels + 1000, 0).astype(np.int32)


NO_LABELS = (
    ("a label of 1.5", partial(spoil_pixel, value=1.5), "1.5"),
    ("a label of -3", partial(spoil_pixel, value=-3), "-3"),
    ("a label of NaN", partial(spoil_pixel, value=np.nan), "nan"),
    ("no segment", lambda labels, header: np.zeros_like(labels), "no segment"),
    ("another shape, and no WCS", strip, "no WCS"),
    ("a WCS elsewhere", partial(move, arcsec=600), "none of its segments"),
    ("a WCS with text", spoil_card, "CRVAL1", "'here'"),
)
OF_OTHERS = (
    ("the segments of another field", shuffle, "give the segmentation that the catalogue was made from"),
    ("a WCS that is 2 arcsec off", partial(move, arcsec=2), "give the segmentation that the catalogue was made from"),
    ("the ids of others", renumber, "give the segmentation that the catalogue was made from"),
    ("ids that the catalogue does not have", add_thousand, "no segment for"),
)

CASES = (
    rows("galfit", GALFIT, "its own", keep, outcome="obeyed", check=target_is_free),
    rows("catalog", CATALOG, "its own", keep, outcome="obeyed", check=is_measured),
    rows("extend", EXTEND, "its own", keep, outcome="obeyed"),
    *(rows("galfit", GALFIT, given, change, "seg.fits", *says) for given, change, *says in NO_LABELS + OF_OTHERS),
    *(rows("catalog", CATALOG, given, change, "seg.fits", *says) for given, change, *says in NO_LABELS),
    *(rows("extend", EXTEND, given, change, "seg.fits", *says) for given, change, *says in OF_OTHERS),
    rows("catalog", CATALOG, "the segments of another field", shuffle, "seg.fits", "brighter than"),
    rows("catalog", CATALOG, "a WCS that is 2 arcsec off", partial(move, arcsec=2), "seg.fits", "brighter than"),
    rows("catalog", CATALOG, "ids of its own", add_thousand, outcome="obeyed"),
    rows("catalog", CATALOG, "half of the image", reaches_a_part, "seg.fits", "covers 50%", outcome="warned"),
)
