"""What is given, and what a program of ours makes of it: the same commands for the code now and as it was before."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.fuzz.readers import PREFIX  # noqa: E402

SECONDS = 60
SCIENCE, WEIGHT, EXPOSURE = (f"{PREFIX}_drc_{kind}.fits.gz" for kind in ("sci", "wht", "exp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One example: what is given in words, how the folder is spoilt, the command, and how it is run."""

    part: str
    given: str
    command: str
    prepare: Callable[[Path], object] | None = None
    shell: str = "{command}"
    watched: str | None = None


def set_card(path: Path, key: str, value: object) -> None:
    """Change a number in the first header of a file, whatever it says."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    at = content.index(f"{key:<8}=".encode())
    spoilt = content[:at] + f"{key:<8}= {value!s:>20}".encode().ljust(80) + content[at + 80 :]
    path.write_bytes(gzip.compress(spoilt, 1) if path.suffix == ".gz" else spoilt)


def spoil_log(column: str, value: str) -> Callable[[Path], None]:
    """Return what changes a cell of the first row of the log."""

    def prepare(folder: Path) -> None:
        path = folder / f"{PREFIX}_wcs.csv"
        lines = path.read_text().splitlines()
        cells = lines[1].split(",")
        cells[lines[0].lower().split(",").index(column)] = value
        path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:], ""]))

    return prepare


def without_end(folder: Path) -> None:
    """Write a header without END."""
    text = b"SIMPLE  =                    T".ljust(80) + b"COMMENT x".ljust(80) * 2_000_000
    (folder / SCIENCE).write_bytes(gzip.compress(text, 1))


def huge(folder: Path) -> None:
    """Write 3 kB that say they are an image of 100000 x 100000 pixels."""
    cards = ("SIMPLE  =                    T", "BITPIX  =                  -32", "NAXIS   =                    2")
    cards += ("NAXIS1  =               100000", "NAXIS2  =               100000", "END")
    (folder / SCIENCE).write_bytes(gzip.compress("".join(card.ljust(80) for card in cards).ljust(5760).encode()))


def catalog_of_zeros(folder: Path) -> None:
    """Write 3 MB that inflate to 3 GB."""
    piece = gzip.compress(bytes(1 << 28), 9)
    head = gzip.compress(b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800))
    (folder / "cat.fits.gz").write_bytes(head + piece * 12)


def link(folder: Path) -> None:
    """Write a VOTable whose rows are in another file."""
    stream = '<STREAM href="file:///etc/passwd" encoding="base64"/>'
    table = f'<TABLE><FIELD name="ra" datatype="double"/><DATA><BINARY>{stream}</BINARY></DATA></TABLE>'
    (folder / "cat.vot").write_text(f'<?xml version="1.0"?><VOTABLE><RESOURCE>{table}</RESOURCE></VOTABLE>')


def places(folder: Path) -> None:
    """Write a catalogue of one position."""
    (folder / "cat.csv").write_text("id,ra,dec\n1,34.4,-5.2\n")


def plugin(text: str) -> Callable[[Path], None]:
    """Return what installs a plugin of one module, by the files that pip would leave."""

    def prepare(folder: Path) -> None:
        (folder / "bad.py").write_text(f"from dja_photplug import hookimpl\n{text}")
        about = folder / "bad-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1\n")
        (about / "entry_points.txt").write_text("[dja_photplug]\nbad = bad\n")

    return prepare


FAST = f"{PREFIX} --noise dja"
EXTEND = f"{FAST} --apertures 0.5 -o out.ecsv"
CATALOG = f"catalog {FAST} -o cat.fits"
CASES = (
    Case(part="1", given="a URL for a prefix, offline", command=f"info https://127.0.0.1:9/{PREFIX}"),
    Case(part="1", given="`fetch` of a field, offline", command="fetch x f444w --base-url https://127.0.0.1:9"),
    *(
        Case(
            part="3",
            given=f"`-o` {what}, with `--overwrite`",
            command=f"{command} --overwrite",
            prepare=prepare,
            watched=path,
        )
        for what, path, command, prepare in (
            ("the science image", SCIENCE, f"weight {PREFIX} -o {SCIENCE}", None),
            ("the weight", WEIGHT, f"weight {PREFIX} -o {WEIGHT}", None),
            ("the exposure map", EXPOSURE, f"weight {PREFIX} -o {EXPOSURE}", None),
            ("the catalogue", "cat.csv", f"extend cat.csv {FAST} --apertures 0.5 -o cat.csv", places),
            ("the science, for the segmentation", SCIENCE, f"{CATALOG} --segmentation {SCIENCE}", None),
        )
    ),
    Case(part="3", given="one name for two outputs", command=f"{CATALOG} --segmentation cat.fits"),
    Case(part="4", given="SIGTERM", command=CATALOG, shell="terminated"),
    Case(
        part="5",
        given="NAXIS -1",
        command=f"info {PREFIX}",
        prepare=lambda folder: set_card(folder / SCIENCE, "NAXIS", -1),
    ),
    Case(
        part="5",
        given="NAXIS 999999999",
        command=f"info {PREFIX}",
        prepare=lambda folder: set_card(folder / SCIENCE, "NAXIS", 999999999),
    ),
    Case(part="5", given="a header without END in gzip", command=f"info {PREFIX}", prepare=without_end),
    Case(part="5", given="100000 x 100000 pixels in a tiny file", command=f"weight {PREFIX} -o w.fits", prepare=huge),
    Case(
        part="5", given="3 MB of gzip that hold 3 GB", command=f"extend cat.fits.gz {EXTEND}", prepare=catalog_of_zeros
    ),
    Case(part="5", given="a VOTable with `href`", command=f"extend cat.vot {EXTEND}", prepare=link),
    Case(part="5", given="a log with exptime -5", command=f"epochs {PREFIX}", prepare=spoil_log("exptime", "-5")),
    Case(part="5", given="a log with naxis1 0", command=f"epochs {PREFIX}", prepare=spoil_log("naxis1", "0")),
    Case(part="5", given="a log with crval2 91", command=f"epochs {PREFIX}", prepare=spoil_log("crval2", "91")),
    Case(part="5", given="a log with crpix1 1e300", command=f"epochs {PREFIX}", prepare=spoil_log("crpix1", "1e300")),
    Case(part="5", given="400 MB for the whole process", command=CATALOG, shell="ulimit -v 400000; {command}"),
    Case(part="6", given="a plugin that cannot be imported", command="plugins", prepare=plugin("import nowhere\n")),
    Case(
        part="6",
        given="a plugin whose loader gives a number",
        command=CATALOG,
        prepare=plugin("@hookimpl(tryfirst=True)\ndef photplug_load(source, options, variance):\n    return 5\n"),
    ),
    Case(
        part="6",
        given="a plugin that ends the process with SystemExit",
        command=CATALOG,
        prepare=plugin("@hookimpl\ndef photplug_background(image, options):\n    raise SystemExit(0)\n"),
    ),
    Case(
        part="6",
        given="a `photplug_*` function that is not marked",
        command="plugins --quiet",
        prepare=plugin("def photplug_load(source, options, variance):\n    return None\n"),
    ),
    Case(
        part="6",
        given="a typo in DJA_PHOTPLUG_BLOCK",
        command="plugins",
        shell="DJA_PHOTPLUG_BLOCK=sep-engin {command}",
    ),
    Case(part="7", given="a folder that cannot be written", command=f"weight {PREFIX} -o /proc/w.fits"),
    Case(
        part="7",
        given="a working folder that was deleted",
        command=f"info {PREFIX}",
        shell="mkdir x; cd x; rmdir ../x; {command}",
    ),
    Case(part="7", given="a full stdout", command=f"info {PREFIX}", shell="{command} >/dev/full"),
    Case(part="7", given="a name of 300 characters", command=f"info {'x' * 300}-v1-f444w-clear"),
    Case(
        part="7",
        given="an output of 300 characters",
        command=f"survey f.toml -o {'x' * 300}",
        prepare=lambda folder: (folder / "f.toml").write_text(f'[fields.one]\nbands = ["{PREFIX}"]\n'),
    ),
    Case(
        part="7",
        given="links in a circle",
        command=f"weight {PREFIX} -o a.fits",
        prepare=lambda folder: ((folder / "a.fits").symlink_to("b.fits"), (folder / "b.fits").symlink_to("a.fits")),
    ),
    Case(part="7", given="a pipe", command="epochs log.csv", prepare=lambda folder: os.mkfifo(folder / "log.csv")),
)


def run_case(case: Case, prefix: Path, python: str) -> str:
    """Return what is said of a case by the code of an interpreter's environment, in one line.

    Parameters
    ----------
    case : Case
    prefix : Path
        Of a simulated mosaic.
    python : str

    Returns
    -------
    str
    """
    with TemporaryDirectory() as place:
        folder = Path(place, "run")
        folder.mkdir()
        for path in prefix.parent.glob(f"{prefix.name}_*"):
            shutil.copy(path, folder)
        if case.prepare:
            case.prepare(folder)
        watched = folder / case.watched if case.watched else None
        before = watched.read_bytes() if watched else b""
        command = f"{python} -m dja_photplug {case.command}"
        shell = command if case.shell == "terminated" else case.shell.format(command=command)
        environment = os.environ | {"PYTHONPATH": str(folder), "TMPDIR": place}
        environment.pop("DJA_PHOTPLUG_BLOCK", None)
        run = subprocess.Popen(
            ["bash", "-c", f"exec {shell}" if case.shell == "terminated" else shell],
            cwd=folder, env=environment, stdout=-3, stderr=-1, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        if case.shell == "terminated":
            while run.poll() is None and not [*folder.glob(".*"), *Path(place).glob("dja-photplug-*")]:
                time.sleep(0.01)
            run.terminate()
        try:
            err = run.communicate(timeout=SECONDS)[1]
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
            return f"nothing in {SECONDS} s"
        lost = watched is not None and (not watched.exists() or watched.read_bytes() != before)
        left = [path.name for path in folder.glob(".dja-photplug*")]
    lines = [line for line in err.replace(place, "").strip().splitlines() if "UserWarning" not in line]
    said = lines[-1].removeprefix("dja-photplug: ") if lines else "not a word"
    more = f" (after {len(lines) - 1} other lines)" if len(lines) > 1 else ""
    told = said.replace("x" * 80, "xxx").replace("|", "\\|")
    end = "; **the input is lost**" if lost else f"; leaves {left[0]}" if left else ""
    return f"{run.returncode}: `{told[:400]}`{more}{end}"
