"""The cases of the benchmark: what is run on a mosaic, ours and others'."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from dja_photplug.light.smoothing import gaussian_kernel
from dja_photplug.options.run import Options
from fields import SCALE, Field

__all__ = ["CASES", "PROGRAM", "Case", "Job", "Setup", "count_rows", "find_program"]

HERE = Path(__file__).resolve().parent
PROGRAM = "source-extractor"
STAMPS = 1_000

# Units of a catalogue that source-extractor makes, for what ours has.
PARAMETERS = (
    "NUMBER X_IMAGE Y_IMAGE ALPHA_J2000 DELTA_J2000 A_IMAGE B_IMAGE THETA_IMAGE FLUX_AUTO FLUXERR_AUTO KRON_RADIUS "
    "FLUX_RADIUS FLUX_ISO FLUXERR_ISO FLAGS ISOAREA_IMAGE FLUX_APER({n}) FLUXERR_APER({n})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all cases of a run share.

    Attributes
    ----------
    flags : tuple of str
        More flags for our `catalog` and `extend`.
    segmentation : bool
        Whether catalogues come with their segmentation, ours and those of source-extractor.
    """

    flags: tuple[str, ...] = ()
    segmentation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Commands, how many of them at a time, and the files that must be there afterwards.

    Attributes
    ----------
    commands : list of list of str
    outputs : tuple of Path
        Made anew; the rows of the first are counted where it is a table.
    parallel : int
    rows : int or None
        Where the outputs do not tell it: what was made.
    """

    commands: list[list[str]]
    outputs: tuple[Path, ...]
    parallel: int = 1
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way of doing something.

    Attributes
    ----------
    title : str
        What the tables call it; ``{n}`` stands for the number of bands or positions.
    job : callable
        ``job(field, setup, n)`` with a number of bands or positions, 1 where a case has neither.
    over : str
        ``bands``, ``positions``, or nothing: what there is a job for each number of.
    before : callable, optional
        A job whose outputs it needs; done once, and not timed.
    external : bool
        Whether it needs source-extractor.
    """

    title: str
    job: Callable[[Field, Setup, int], Job]
    over: str = ""
    before: Callable[[Field, Setup, int], Job] | None = None
    external: bool = False


def find_program() -> str | None:
    """Return where source-extractor is; None where it is not installed.

    Returns
    -------
    str or None
    """
    return shutil.which(PROGRAM) or shutil.which("sex")


def count_rows(path: Path) -> int | None:
    """Return the number of rows of a table.

    Parameters
    ----------
    path : Path

    Returns
    -------
    int or None
        None where the file holds an image.
    """
    if path.suffix != ".fits":
        return None
    with fits.open(path) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        return int(tables[0].header["NAXIS2"]) if tables else None


def _ours(*words: object) -> list[str]:
    """Return a command of ours; without the working directory on the path, so that it is the installed one."""
    return [sys.executable, "-P", "-m", "dja_photplug", *map(str, words), "--quiet", "--overwrite"]


def _plain(name: str, *words: object) -> list[str]:
    return [sys.executable, str(HERE / "plain.py"), name, *map(str, words)]


def _gzipped(field: Field, kind: str) -> str:
    return f"{field.prefix(0)}_drc_{kind}.fits.gz"


def _decompress(field: Field, setup: Setup, n: int) -> Job:
    return Job(commands=[_plain("decompress", _gzipped(field, "sci"), _gzipped(field, "wht"))], outputs=())


def _load(field: Field, setup: Setup, n: int) -> Job:
    return Job(commands=[_plain("load", field.prefix(0))], outputs=())


def _read(field: Field, setup: Setup, n: int) -> Job:
    return Job(commands=[_plain("astropy", _gzipped(field, "sci"), _gzipped(field, "wht"))], outputs=())


def _recipe(field: Field, setup: Setup, n: int) -> Job:
    output = field.folder / "recipe.fits"
    return Job(commands=[_plain("recipe", *(_gzipped(field, kind) for kind in ("sci", "wht", "exp")), output)],
               outputs=(output,))  # fmt: skip


def _weigh(suffix: str) -> Callable[[Field, Setup, int], Job]:
    def job(field: Field, setup: Setup, n: int) -> Job:
        output = field.folder / f"weight{suffix}"
        return Job(commands=[_ours("weight", field.prefix(0), "-o", output)], outputs=(output,))

    return job


def _catalog(*flags: str) -> Callable[[Field, Setup, int], Job]:
    def job(field: Field, setup: Setup, n: int) -> Job:
        output, segments = field.folder / "catalog.fits", field.folder / "segments.fits"
        more = ["--segmentation", segments] if setup.segmentation else []
        bands = [field.prefix(band) for band in range(n)]
        command = _ours("catalog", *bands, "-o", output, *flags, *setup.flags, *more)
        return Job(commands=[command], outputs=(output, segments) if more else (output,))

    return job


def _extend(*flags: str) -> Callable[[Field, Setup, int], Job]:
    def job(field: Field, setup: Setup, n: int) -> Job:
        output = field.folder / "extended.fits"
        command = _ours("extend", field.positions(n), field.prefix(0), "-o", output, *flags, *setup.flags)
        return Job(commands=[command], outputs=(output,))

    return job


def _sep(field: Field, setup: Setup, n: int) -> Job:
    output = field.folder / "sep.fits"
    return Job(commands=[_plain("sep", field.plane(0, "sci"), field.plane(0, "wht"), output)], outputs=(output,))


def _sep_positions(field: Field, setup: Setup, n: int) -> Job:
    output = field.folder / "sep-positions.fits"
    words = (field.plane(0, "sci"), field.plane(0, "wht"), output, field.positions(n))
    return Job(commands=[_plain("sep", *words)], outputs=(output,))


def _sources(field: Field, setup: Setup, n: int) -> Job:
    """A catalogue with its segmentation, to model neighbours of and to cut stamps for."""
    outputs = (field.folder / "stamped.fits", field.folder / "stamped_seg.fits")
    flags = ("--noise", "dja", "--neighbours", "mask", "--segmentation", outputs[1])
    return Job(commands=[_ours("catalog", field.prefix(0), "-o", outputs[0], *flags)], outputs=outputs)


def _neighbours(field: Field, setup: Setup, n: int) -> Job:
    catalog, segments = _sources(field, setup, n).outputs
    command = _plain("neighbours", field.prefix(0), catalog, segments)
    return Job(commands=[command], outputs=(), rows=count_rows(catalog) if catalog.exists() else None)


def _stamps(field: Field, setup: Setup, n: int) -> Job:
    catalog, segments = _sources(field, setup, n).outputs
    folder = field.folder / "stamps"
    ids = range(1, min(STAMPS, count_rows(catalog) or 0) + 1)
    words = ("--catalog", catalog, "--use-segmentation", segments, "--psf", field.psf, "--size", 6)
    command = _ours("galfit", field.prefix(0), *words, "-o", folder, "--id", *ids)
    return Job(commands=[command], outputs=(folder / f"{ids[-1]}.feedme",), rows=len(ids))


def _extract(parallel: int = 1, *, dual: bool = False) -> Callable[[Field, Setup, int], Job]:
    """source-extractor on unzipped planes; in dual-image mode with the first band as the detection image."""

    def job(field: Field, setup: Setup, n: int) -> Job:
        folder = field.folder / "source-extractor"
        _configure(folder)
        commands, outputs = [], []
        for band in range(n):
            sci, wht = (str(field.plane(band, kind)) for kind in ("sci", "wht"))
            if dual:
                sci, wht = f"{field.plane(0, 'sci')},{sci}", f"{field.plane(0, 'wht')},{wht}"
            output = folder / f"{'dual' if dual else 'single'}-{band}.fits"
            words = [find_program() or PROGRAM, sci, "-c", str(folder / "mosaic.sex"), "-WEIGHT_IMAGE", wht]
            words += ["-WEIGHT_TYPE", "MAP_WEIGHT,MAP_WEIGHT" if dual else "MAP_WEIGHT", "-CATALOG_NAME", str(output)]
            outputs.append(output)
            if setup.segmentation:
                segments = output.with_name(f"{output.stem}_seg.fits")
                words += ["-CHECKIMAGE_TYPE", "SEGMENTATION", "-CHECKIMAGE_NAME", str(segments)]
                outputs.append(segments)
            commands.append(words)
        return Job(commands=commands, outputs=tuple(outputs), parallel=parallel)

    return job


def _configure(folder: Path) -> None:
    """Write the settings of source-extractor: those of our own defaults, as far as both have them."""
    folder.mkdir(exist_ok=True)
    options = Options()
    detect, diameters = options.detect, options.measure.apertures
    values = gaussian_kernel(detect.kernel)
    assert values is not None  # the default smooths
    rows = [" ".join(f"{value:.6f}" for value in row) for row in values]
    kernel = folder / "gauss_3.0_7x7.conv"
    kernel.write_text("\n".join(["CONV NORM", "# Gaussian of 3 pixels FWHM", *rows]) + "\n")
    names = folder / "mosaic.param"
    names.write_text("\n".join(PARAMETERS.format(n=len(diameters)).split()) + "\n")
    settings = {
        "CATALOG_TYPE": "FITS_1.0",
        "PARAMETERS_NAME": names,
        "DETECT_THRESH": detect.n_sigma,
        "ANALYSIS_THRESH": detect.n_sigma,
        "DETECT_MINAREA": detect.n_pixels,
        "FILTER": "Y",
        "FILTER_NAME": kernel,
        "DEBLEND_NTHRESH": detect.n_levels,
        "DEBLEND_MINCONT": detect.contrast,
        "CLEAN": "Y",
        "CLEAN_PARAM": detect.clean,
        "RESCALE_WEIGHTS": "N",
        "WEIGHT_GAIN": "N",
        "PHOT_APERTURES": ",".join(f"{diameter / SCALE:g}" for diameter in diameters),
        "PHOT_AUTOPARAMS": f"{options.measure.kron_factor},{options.measure.kron_min}",
        "PHOT_FLUXFRAC": 0.5,
        "BACK_SIZE": round(options.background.mesh / SCALE),
        "BACK_FILTERSIZE": options.background.mesh_filter,
        "MAG_ZEROPOINT": 28.9,
        "PIXEL_SCALE": SCALE,
        "MEMORY_OBJSTACK": 30_000,
        "MEMORY_PIXSTACK": 10_000_000,
        "VERBOSE_TYPE": "QUIET",
    }
    (folder / "mosaic.sex").write_text("".join(f"{name:16} {value}\n" for name, value in settings.items()))


CASES: dict[str, Case] = {
    "decompress": Case(title="isal: inflate science and weight side by side, keep nothing", job=_decompress),
    "load": Case(title="`load_mosaic`", job=_load),
    "astropy": Case(title="astropy: read science and weight, invert the weight", job=_read),
    "weight": Case(title="`weight`, to .fits", job=_weigh(".fits")),
    "weight-gz": Case(title="`weight`, to .fits.gz", job=_weigh(".fits.gz")),
    "recipe": Case(title="the published recipe in memory, to .fits", job=_recipe),
    "catalog-dja": Case(title="`catalog --noise dja`", job=_catalog("--noise", "dja")),
    "catalog-mask": Case(title="`catalog --neighbours mask`", job=_catalog("--neighbours", "mask")),
    "catalog": Case(title="`catalog`", job=_catalog()),
    "catalog-1": Case(title="`catalog --workers 1`", job=_catalog("--workers", "1")),
    "neighbours": Case(
        title="models of the light of all sources beyond their segments (call)", job=_neighbours, before=_sources
    ),
    "sep": Case(title="plain sep, unzipped files", job=_sep),
    "se": Case(title="source-extractor, unzipped files", job=_extract(), external=True),
    "se-dual": Case(title="source-extractor, dual-image mode", job=_extract(dual=True), external=True),
    "bands-1": Case(
        title="`catalog --detect stack --workers 1`, {n} bands",
        job=_catalog("--detect", "stack", "--workers", "1"),
        over="bands",
    ),
    "bands-2": Case(
        title="`catalog --detect stack --workers 2`, {n} bands",
        job=_catalog("--detect", "stack", "--workers", "2"),
        over="bands",
    ),
    "se-bands": Case(
        title="source-extractor, {n} runs one after the other", job=_extract(), over="bands", external=True
    ),
    "se-bands-2": Case(title="source-extractor, {n} runs, two at a time", job=_extract(2), over="bands", external=True),
    "extend-dja": Case(title="`extend --noise dja`, {n} rows", job=_extend("--noise", "dja"), over="positions"),
    "extend": Case(title="`extend`, {n} rows", job=_extend(), over="positions"),
    "sep-positions": Case(title="plain sep, {n} positions", job=_sep_positions, over="positions"),
    "galfit": Case(title="`galfit`: stamps of 6 arcsec, six files each", job=_stamps, before=_sources),
}
