"""Command lines, the files that each reads, and what is wrong with how one ended."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import random
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from astropy.table import Table

from dja_photplug.cli.app import build_parser, main
from dja_photplug.files.tables.read import read_catalog
from dja_photplug.files.tables.write import write_extended
from dja_photplug.plugins.manager import get_plugin_manager
from dja_photplug.simulate.mosaic import MosaicOptions, simulate_mosaic
from tests.fuzz.mutate import NUMBERS, TEXTS, mutate, pack
from tests.fuzz.readers import PREFIX
from tests.helpers import isolated_scene, write_psf

__all__ = ["COMMANDS", "Command", "check_sound", "make_folder", "quote", "run_command", "spoil_file", "spoil_words"]

MOSAIC = tuple(f"{PREFIX}_{kind}" for kind in ("drc_sci.fits.gz", "drc_wht.fits.gz", "drc_exp.fits.gz", "wcs.csv"))
CATALOGS = ("cat.fits", "cat.ecsv", "cat.csv", "cat.vot", "cat.h5", "cat.parquet", "cat.cat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line.

    Attributes
    ----------
    words : str
        Without the name of the program.
    files : tuple of str
        Those of which one is spoilt.
    """

    words: str
    files: tuple[str, ...]


FAST = "--noise dja --sky none"
COMMANDS = {
    "info": Command(words=f"info {PREFIX}", files=MOSAIC),
    "weight": Command(words=f"weight {PREFIX} -o out.fits --config options.toml", files=(*MOSAIC, "options.toml")),
    "catalog": Command(
        words=f"catalog {PREFIX} -o out.fits --psf psf.fits --regions out.reg --config options.toml {FAST}",
        files=(*MOSAIC, "psf.fits", "options.toml"),
    ),
    "catalog, calibrated": Command(words=f"catalog {PREFIX} -o out.ecsv", files=MOSAIC),
    "catalog of segments": Command(
        words=f"catalog {PREFIX} -o out.parquet --use-segmentation seg.fits {FAST}", files=("seg.fits", *MOSAIC)
    ),
    "epochs": Command(words=f"epochs {PREFIX}_wcs.csv --footprints out.reg --cite", files=(f"{PREFIX}_wcs.csv",)),
    **{
        f"epochs of {name}": Command(words=f"epochs {PREFIX} --catalog {name} -o out.ecsv --overwrite", files=(name,))
        for name in CATALOGS
    },
    **{
        f"extend {name}": Command(words=f"extend {name} {PREFIX} -o out.fits --overwrite {FAST}", files=(name,))
        for name in CATALOGS
    },
    "galfit": Command(
        words=f"galfit {PREFIX} --catalog cat.fits --id 1 --psf psf.fits --size 2 -o out --noise dja",
        files=("psf.fits", "cat.fits", *MOSAIC),
    ),
    "inject": Command(
        words=f"inject {PREFIX} -o out.fits --psf psf.fits --workers 1 {FAST}", files=("psf.fits", *MOSAIC)
    ),
    "psf stars": Command(words=f"psf stars {PREFIX} -o out.fits --snr 5", files=MOSAIC),
    "psf log": Command(
        words=f"psf log {PREFIX} -o out.fits --detector-psf psf.fits --position 34.400541 -5.200427",
        files=("psf.fits", f"{PREFIX}_wcs.csv", *MOSAIC),
    ),
    "report": Command(
        words="report cat.fits -o out.html --segmentation seg.fits", files=("cat.fits", "seg.fits", *MOSAIC)
    ),
    "survey": Command(words="survey fields.toml -o out", files=("fields.toml", "fields.toml", *MOSAIC)),
    "plugins": Command(words="plugins", files=()),
}
"""By what they do; `plugins` reads nothing, and is there for its flags."""


def make_folder(folder: Path) -> None:
    """Write a small mosaic, and all other files that the commands read.

    Parameters
    ----------
    folder : Path
        Empty.
    """
    scene = isolated_scene(shape=(121, 138), n_sources=8, flux_range=(0.5, 50), seed=5)
    simulate_mosaic(folder, scene, MosaicOptions(root="sim-test-v7.4", n_exposures=3, seed=6))
    for path in (*folder.glob("*_truth_sci.fits.gz"), folder / "sim-test-v7.4_truth.ecsv"):
        path.unlink()
    write_psf(folder / "psf.fits", 0.06, 25)
    (folder / "options.toml").write_text("[detect]\nn_sigma = 2.0\n[measure]\napertures = [0.5, 0.7]\n")
    fields = f'[fields.one]\nbands = ["{PREFIX}"]\n[fields.two]\npattern = "{PREFIX}_drc*"\n'
    (folder / "fields.toml").write_text(f'[options.variance]\nnoise = "dja"\n{fields}')
    with contextlib.chdir(folder):
        made = main(f"catalog {PREFIX} -o cat.fits --segmentation seg.fits --quiet {FAST}".split())
    if made:
        raise RuntimeError("the catalogue was not made")
    table = read_catalog(folder / "cat.fits")
    for suffix in (".ecsv", ".csv", ".vot", ".h5", ".parquet"):
        write_extended(table, folder / f"cat{suffix}", added=[], overwrite=True)
    places = "".join(f"{i} {ra:.6f} {dec:.6f}\n" for i, ra, dec in Table(table)["id", "ra", "dec"].iterrows())
    heads = ("NUMBER  Running object number", "ALPHA_J2000  RA  [deg]", "DELTA_J2000  Dec  [deg]")
    (folder / "cat.cat").write_text("".join(f"#   {i} {text}\n" for i, text in enumerate(heads, 1)) + places)


def check_sound(command: Command, sound: Path) -> None:
    """See a command obeyed, in this process, whose copies have then imported what it needs.

    Parameters
    ----------
    command : Command
    sound : Path
        Folder of :func:`make_folder`; nothing is left in it.

    Raises
    ------
    RuntimeError
        Where it is not.
    """
    err = io.StringIO()
    with TemporaryDirectory() as place:
        folder = shutil.copytree(sound, Path(place, "run"))
        with contextlib.chdir(folder), contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            if main(command.words.split()):
                raise RuntimeError(f"{command.words}: {err.getvalue()}")


def spoil_file(path: Path, rng: random.Random) -> None:
    """Write a mutation of a file in its place.

    Parameters
    ----------
    path : Path
    rng : random.Random
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        path.write_bytes(pack(mutate(gzip.decompress(content), rng), rng))
    else:
        path.write_bytes(mutate(content, rng))


def _flags(command: str) -> list[argparse.Action]:
    """Return the flags of a command."""
    parser = build_parser(get_plugin_manager())
    commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    quiet = ("-h", "--help", "--debug")  # what prints help reads nothing; a traceback is what --debug is for
    return [
        each
        for each in commands.choices[command]._actions
        if each.option_strings and each.option_strings[0] not in quiet
    ]


def spoil_words(words: list[str], rng: random.Random) -> list[str]:
    """Return a command line with other flags, values and words.

    Parameters
    ----------
    words : list of str
    rng : random.Random

    Returns
    -------
    list of str
    """
    words = list(words)
    texts = (
        *TEXTS,
        *NUMBERS,
        "cat.fits",
        "psf.fits",
        ".",
        "/dev/null",
        f"f444w={rng.choice(NUMBERS)}",
        "sep",
        "a" * 300,
    )
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.random()
        if kind < 0.7:
            action = (
                rng.choice(_flags(words[0]))
                if words and words[0] in {each.words.split()[0] for each in COMMANDS.values()}
                else None
            )
            if action is None:
                continue
            count = action.nargs if isinstance(action.nargs, int) else rng.choice((1, 1, 1, 2))
            choices = [str(each) for each in action.choices] if action.choices and rng.random() < 0.5 else texts
            words += [action.option_strings[-1], *(rng.choice(choices) for _ in range(count))]
        elif kind < 0.85:
            words[rng.randrange(1, len(words)) if len(words) > 1 else 0] = rng.choice(texts)
        elif kind < 0.95 and len(words) > 1:
            del words[rng.randrange(1, len(words))]
        else:
            words.insert(rng.randrange(len(words) + 1), rng.choice(texts))
    return words


_OURS = "dja-photplug: "
_NOT_OURS = re.compile(r"Traceback|internal error|this is a bug|plugin '[^']*' failed")


def run_command(words: list[str], folder: Path) -> str:
    """Run a command line in a folder, for ever: working directory and streams of the process are not given back.

    Parameters
    ----------
    words : list of str
    folder : Path

    Returns
    -------
    str
        ``obeyed``, ``refused``, or what is wrong.
    """
    os.chdir(folder)
    before = {path.name for path in folder.iterdir()}
    said = folder.parent / f"{folder.name}.err"
    with said.open("wb") as err, open(os.devnull, "wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(each, "wb", 0), write_through=True) for each in (1, 2))
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    return _judge(status, said.read_text(errors="backslashreplace").splitlines(), before, folder)


def _judge(status: object, lines: list[str], before: set[str], folder: Path) -> str:
    """Say what is wrong with the end of a command."""
    errors = [line for line in lines if not line.startswith(f"{_OURS}warning: ")]
    bad = [line for line in lines if not line.startswith(_OURS) or _NOT_OURS.search(line)]
    if bad:
        return f"prints {' / '.join(bad)[:300]}"
    if status not in (0, 1, 2) or len(errors) != bool(status):
        return f"ends with {status}, and {len(errors)} lines: {' / '.join(errors)[:300]}"
    new = sorted({path.name for path in folder.iterdir()} - before)
    # A survey goes on with its other fields; what it made is whole.
    if [name for name in new if name.startswith(".")] or (status and new and new != ["out"]):
        return f"ends with {status}, and leaves {', '.join(new)}"
    return "refused" if status else "obeyed"


def quote(words: list[str]) -> str:
    """Return a command line as a user would type it.

    Parameters
    ----------
    words : list of str

    Returns
    -------
    str
    """
    return shlex.join(words)[:200]
