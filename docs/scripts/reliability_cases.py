"""What is given, and what a program of ours makes of it."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
from astropy.io import fits

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.fuzz.kills import find_processes  # noqa: E402
from tests.fuzz.readers import PREFIX  # noqa: E402
from tests.helpers import write_psf  # noqa: E402
from tests.remote.server import Fault, serve_folder  # noqa: E402

SECONDS = 120
ORPHANS = 20  # s
LOG = f"{PREFIX}_wcs.csv"
SCIENCE, WEIGHT, EXPOSURE = (f"{PREFIX}_drc_{kind}.fits.gz" for kind in ("sci", "wht", "exp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One example: what is given in words, how the folder is spoilt, the command, and how it is run.

    `watched` is an input that may be lost, `judge` says more of the folder afterwards, and `{url}` in the command is a
    server of a mosaic, which misbehaves by `fault`.
    """

    part: str
    given: str
    command: str
    prepare: Callable[[Path], object] | None = None
    shell: str = "{command}"
    watched: str | None = None
    judge: Callable[[Path], str] | None = None
    fault: Fault | None = None


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


def add_card(path: Path, key: str, value: object) -> None:
    """Write a card, whatever it says, in place of the last one."""
    content = gzip.decompress(path.read_bytes())
    at = content.index(b"END".ljust(80)) - 80
    path.write_bytes(
        gzip.compress(content[:at] + f"{key:<8}= {value!s:>20}".encode().ljust(80) + content[at + 80 :], 1)
    )


def without_end(folder: Path) -> None:
    """Write a header without END."""
    text = b"SIMPLE  =                    T".ljust(80) + b"COMMENT x".ljust(80) * 2_000_000
    (folder / SCIENCE).write_bytes(gzip.compress(text, 1))


def huge(folder: Path) -> None:
    """Write 3 kB that say they are an image of 100000 x 100000 pixels."""
    cards = {"SIMPLE": "T", "BITPIX": -32, "NAXIS": 2, "NAXIS1": 100_000, "NAXIS2": 100_000}
    text = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in cards.items()) + "END".ljust(80)
    (folder / SCIENCE).write_bytes(gzip.compress(text.ljust(5760).encode()))


def circle(folder: Path) -> None:
    """Write two links to each other."""
    (folder / "a.fits").symlink_to("b.fits")
    (folder / "b.fits").symlink_to("a.fits")


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


def site(text: str) -> Callable[[Path], object]:
    """Return what lets each process begin with some lines of Python."""
    return lambda folder: (folder / "sitecustomize.py").write_text(text)


# A process of workers ends as it begins, with the first that it imports of the package.
DEAD = """import os, signal, sys
from importlib.abc import MetaPathFinder
class Early(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "dja_photplug":
            os.kill(os.getpid(), signal.SIGKILL)
if any("spawn_main" in word or "forkserver" in word for word in sys.orig_argv):
    sys.meta_path.insert(0, Early())
"""
# The first file that takes its place is the last thing that a run does.
KILLED = """import os, signal
replace = os.replace
def once(one, other, **given):
    replace(one, other, **given)
    if "KILLED" in os.environ and str(other).endswith(".fits") and "dja-photplug" not in str(other):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = once
"""
# A figure that cannot be drawn, after all else.
NO_PLOT = """import sys
from importlib.abc import MetaPathFinder
class Late(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "matplotlib.figure":
            raise OSError(28, "No space left on device")
sys.meta_path.insert(0, Late())
"""


def unguarded(folder: Path) -> None:
    """Write a script without the guard of its main module, which takes workers."""
    words = f"{INJECT} --quiet".split()
    (folder / "script.py").write_text(f"from dja_photplug.cli.app import main\nmain({words})\n")


def count_rows(folder: Path) -> str:
    """Say whether a catalogue and its segmentation are of one run."""
    catalog, segments = folder / "cat.fits", folder / "seg.fits"
    if not catalog.exists() or not segments.exists():
        return "no such set is there"
    rows, labels = len(fits.getdata(catalog)), len(np.unique(fits.getdata(segments))) - 1
    return f"{rows} rows beside {labels} segments" if rows == labels else f"**{rows} rows beside {labels} segments**"


def count_left(folder: Path) -> str:
    """Say how many files of a dead run are left."""
    left = [path for place in (folder, folder.parent) for path in place.glob("*dja-photplug-*")]
    left += [path for path in folder.glob(".*") if path not in left]
    return f"**{len(left)} temporary files or folders are left**" if left else "nothing else is left"


def catalog_by_link(folder: Path) -> None:
    """Write a table in HDF5 whose rows are in another file."""
    kind = np.dtype([("id", "i8"), ("ra", "f8"), ("dec", "f8")])
    (folder / "secret").write_bytes(np.array([(1, 34.4, -5.2)], kind).tobytes())
    with h5py.File(folder / "cat.h5", "w") as file:
        file.create_dataset("t", (1,), kind, external=[("secret", 0, kind.itemsize)])


def count_fields(value: int) -> Callable[[Path], object]:
    """Return what writes a catalogue of one position that says that it has so many columns."""

    def prepare(folder: Path) -> None:
        columns = [fits.Column(name, "D", array=[place]) for name, place in (("ra", 34.4), ("dec", -5.2))]
        fits.BinTableHDU.from_columns(columns).writeto(folder / "cat.fits")
        set_card(folder / "cat.fits", "TFIELDS", value)

    return prepare


def compare_stamps(folder: Path) -> str:
    """Say whether the stamps of a folder are of one run."""
    shapes = {fits.getdata(path).shape for path in folder.glob("stamps/*.fits") if "psf" not in path.name}
    return "stamps of one size" if len(shapes) == 1 else f"**stamps of {len(shapes)} sizes**"


PLACE = "34.400541 -5.200427"
GALFIT = f"galfit {PREFIX} --position {PLACE} --psf psf.fits --noise dja"
INJECT = f"inject {PREFIX} -o i.fits --psf psf.fits --noise dja --workers 2 --realisations 2"
# Rights bind root too, once it is without these capabilities.
AS_OTHERS = "setpriv --bounding-set=-dac_override,-dac_read_search" if os.geteuid() == 0 else ""
FAST = f"{PREFIX} --noise dja"
EXTEND = f"{FAST} --apertures 0.5 -o out.ecsv"
CATALOG = f"catalog {FAST} -o cat.fits"
CASES = (
    Case(part="1", given="a URL for a prefix, offline", command=f"info https://127.0.0.1:9/{PREFIX}"),
    Case(part="1", given="`fetch` of a field, offline", command="fetch x f444w --base-url https://127.0.0.1:9"),
    Case(part="1", given="`fetch --list`, of the list that is shipped", command="fetch --list"),
    Case(
        part="1",
        given="`fetch` from a server that breaks off twice",
        command="fetch sim-test-v7.4 f444w-clear -o got --base-url {url}",
        fault=Fault(name="sci.fits.gz", times=2, after=100_000),
    ),
    Case(
        part="1",
        given="`fetch` from a server that sends wrong bytes",
        command="fetch sim-test-v7.4 f444w-clear -o got --base-url {url}",
        fault=Fault(name="sci.fits.gz", change=lambda content: content[:-9] + bytes(9)),
    ),
    Case(
        part="1",
        given="a mosaic on a server that sends it to `file:///etc/passwd`",
        command=f"weight {{url}}/{PREFIX} -o w.fits",
        fault=Fault(name="sci.fits.gz", status=302, location="file:///etc/passwd"),
    ),
    Case(
        part="2",
        given="`--cutout` of 8 arcsec of a mosaic on a server",
        command=f"catalog {{url}}/{PREFIX} --cutout {PLACE} 8 --noise dja -o c.fits",
    ),
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
            ("the PSF", "psf.fits", f"catalog {FAST} --psf psf.fits -o psf.fits", None),
            ("the log", LOG, f"epochs {PREFIX} --catalog cat.csv -o {LOG}", places),
        )
    ),
    Case(part="3", given="one name for two outputs", command=f"{CATALOG} --segmentation cat.fits"),
    Case(
        part="3",
        given="`-o` the name of a member that is not there",
        command=f"weight {PREFIX} -o {PREFIX}_drc_var.fits",
    ),
    Case(
        part="3",
        given="a kill between a new catalogue and an old segmentation; then another run",
        command=f"{CATALOG} --segmentation seg.fits --overwrite",
        prepare=site(KILLED),
        shell="{command} --n-sigma 3 --quiet; KILLED=1 {command} --n-sigma 30; {python} -m dja_photplug weight "
        f"{PREFIX} -o w.fits",
        judge=count_rows,
    ),
    Case(
        part="3",
        given="a figure that fails late; then again without it",
        command=CATALOG,
        prepare=site(NO_PLOT),
        shell="{command} --plot p.png 2>/dev/null; {command}",
    ),
    Case(
        part="3",
        given="a kill while `galfit --overwrite` replaces stamps of another size; then another run",
        command=f"{GALFIT} -o stamps --overwrite",
        prepare=site(KILLED),
        shell="{command} --size 2 --quiet; KILLED=1 {command} --size 3; {python} -m dja_photplug weight "
        f"{PREFIX} -o w.fits",
        judge=compare_stamps,
    ),
    Case(part="4", given="SIGTERM", command=CATALOG, shell="terminated"),
    Case(part="4", given="SIGKILL of a worker at 8 moments of its start", command=INJECT, shell="robbed"),
    Case(part="4", given="workers that die as they start", command=INJECT, prepare=site(DEAD)),
    Case(part="4", given="SIGKILL of the parent of two workers", command=INJECT, shell="orphaned"),
    Case(
        part="4",
        given="a script without its `__main__` guard",
        command="",
        prepare=unguarded,
        shell="{python} script.py",
    ),
    Case(
        part="4",
        given="SIGKILL of a run, and the next one there",
        command=f"{CATALOG} --segmentation seg.fits --overwrite",
        prepare=site(KILLED),
        shell="KILLED=1 {command}; {command}",
        judge=count_left,
    ),
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
    Case(part="8", given="what a release holds", command="", shell="released"),
    *(
        Case(part="5", given=f"TFIELDS {value}", command=f"extend cat.fits {EXTEND}", prepare=count_fields(value))
        for value in (-1, 999999999)
    ),
    Case(
        part="5",
        given="PCOUNT -5",
        command=f"weight {PREFIX} -o w.fits",
        prepare=lambda folder: add_card(folder / SCIENCE, "PCOUNT", -5),
    ),
    Case(
        part="5",
        given="a projection that wcslib does not know",
        command=f"info {PREFIX}",
        prepare=lambda folder: set_card(folder / SCIENCE, "CTYPE1", "'RA---XYZ'"),
    ),
    Case(
        part="5",
        given="a card that cannot be parsed, of no use here",
        command=f"weight {PREFIX} -o w.fits",
        prepare=lambda folder: add_card(folder / SCIENCE, "OBSERVER", "'no end"),
    ),
    Case(
        part="5",
        given="rows in HDF5 that are in another file",
        command=f"extend cat.h5 {EXTEND}",
        prepare=catalog_by_link,
    ),
    Case(part="5", given="10^9 levels of deblending", command=f"{CATALOG} --n-levels 1000000000"),
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
    Case(
        part="6",
        given="a plugin that changes the image it is handed",
        command=CATALOG,
        prepare=plugin("@hookimpl(tryfirst=True)\ndef photplug_background(image, options):\n    image.data[...] = 0\n"),
    ),
    Case(
        part="6",
        given="an exception in the command of a plugin",
        command="bad",
        prepare=plugin(
            "@hookimpl\ndef photplug_register_commands(subparsers):\n"
            "    subparsers.add_parser('bad').set_defaults(run=lambda arguments: 1 / 0)\n"
        ),
    ),
    Case(
        part="7",
        given="a folder that cannot be written",
        command=f"weight {PREFIX} -o w.fits",
        shell=f"chmod 555 .; {AS_OTHERS} {{command}}",
    ),
    Case(
        part="7",
        given="a file system that is read only",
        command=f"weight {PREFIX} -o w.fits",
        shell="unshare -m bash -c 'mount --bind $PWD $PWD && mount -o remount,bind,ro $PWD && cd $PWD && {command}'",
    ),
    Case(
        part="7",
        given="a working folder that was deleted",
        command=f"weight {{folder}}/{PREFIX} -o w.fits",
        shell="mkdir x; cd x; rmdir ../x; {command}",
    ),
    Case(
        part="7",
        given="an ASCII terminal, and a name that is not",
        command="info \u00fc-v1-f444w-clear",
        shell="LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii {command}",
    ),
    Case(part="7", given="a closed stdout", command=f"info {PREFIX}", shell="{command} >&-"),
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
        prepare=circle,
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
    with TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place, "run")
        folder.mkdir()
        for path in prefix.parent.glob(f"{prefix.name}_*"):
            shutil.copy(path, folder)
        write_psf(folder / "psf.fits", 0.06, 25)
        Path(place, "cache").mkdir()
        server = stack.enter_context(serve_folder(prefix.parent))
        server.faults += [replace(case.fault)] if case.fault else []
        if case.prepare:
            case.prepare(folder)
        watched = folder / case.watched if case.watched else None
        before = watched.read_bytes() if watched else b""
        command = f"{python} -m dja_photplug {case.command.format(url=server.url, folder=folder)}"
        signalled = case.shell in ("terminated", "orphaned", "robbed")
        shell = f"exec {command}" if signalled else case.shell.format(command=command, python=python)
        environment = os.environ | {"PYTHONPATH": str(folder), "TMPDIR": place, "XDG_CACHE_HOME": f"{place}/cache"}
        environment.pop("DJA_PHOTPLUG_BLOCK", None)
        if case.shell == "released":
            return release(python, folder)
        if case.shell == "robbed":
            return rob(shell, folder, environment)
        run = subprocess.Popen(
            ["bash", "-c", shell],
            cwd=folder, env=environment, stdout=-3, stderr=-1, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        if case.shell == "terminated":
            while run.poll() is None and not [*folder.glob(".*"), *Path(place).glob("dja-photplug-*")]:
                time.sleep(0.01)
            run.terminate()
        if case.shell == "orphaned":
            return kill_parent(run)
        try:
            err = run.communicate(timeout=SECONDS)[1]
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
            return f"nothing in {SECONDS} s"
        lost = watched is not None and (not watched.exists() or watched.read_bytes() != before)
        left = [path.name for path in folder.glob(".dja-photplug*")]
        judged = case.judge(folder) if case.judge else ""
        text = err.replace(f"{folder}/", "").replace(place, "").replace(server.url, "http://server")
    lines = [line for line in text.strip().splitlines() if "UserWarning" not in line and " Killed " not in line]
    said = lines[-1].removeprefix("dja-photplug: ") if lines else ""
    more = f" (after {len(lines) - 1} other lines)" if len(lines) > 1 else ""
    told = said.replace("x" * 80, "xxx").replace("|", "\\|")
    ends = ["**the input is lost**" if lost else "", judged, f"leaves {left[0]}" if left and not judged else ""]
    printed = f"`{told[:400]}`" if told else "nothing is said"
    return f"{run.returncode}: {printed}{more}" + "".join(f"; {end}" for end in ends if end)


def release(python: str, folder: Path) -> str:
    """Build the archive of sources that a release has, and count what is in it."""
    where = "import dja_photplug, pathlib; print(pathlib.Path(dja_photplug.__path__[0]).parent)"
    told = subprocess.run([python, "-c", where], cwd=folder, capture_output=True, text=True, check=True)
    root = Path(told.stdout.strip())
    source = folder / "source"
    shutil.copytree(root, source, ignore=shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info"))
    build = "from setuptools.build_meta import build_sdist; build_sdist('.')"
    subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
    with tarfile.open(next(source.glob("*.tar.gz"))) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    count = {
        part: sum(name.startswith(f"{part}/") for name in names) for part in ("dja_photplug", "hooks", "docs", "tests")
    }
    held = ", ".join(f"{part} {number}" for part, number in count.items())
    return f"{held} files, {'with' if 'CHANGES.md' in names else '**without**'} CHANGES.md"


def rob(shell: str, folder: Path, environment: dict[str, str]) -> str:
    """Kill a worker of a run at moments of its start, and say how the runs ended."""
    ended: Counter[str] = Counter()
    for moment in range(8):
        run = subprocess.Popen(
            ["bash", "-c", f"{shell} --overwrite"],
            cwd=folder, env=environment, stdout=-3, stderr=-3, start_new_session=True,
        )  # fmt: skip
        while run.poll() is None and len(found := sorted(find_processes(run.pid))) < 3:
            time.sleep(0.01)
        time.sleep(0.1 * moment)
        with suppress(ProcessLookupError):
            os.kill(found[-1], signal.SIGKILL)
        try:
            ended[f"end with {run.wait(SECONDS)}"] += 1
        except subprocess.TimeoutExpired:
            ended[f"**hang ({SECONDS} s)**"] += 1
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    return ", ".join(f"{count} of 8 {how}" for how, count in sorted(ended.items()))


def kill_parent(run: subprocess.Popen[str]) -> str:
    """Kill the parent of workers when these have begun, and return what is left of them."""
    while run.poll() is None and len(find_processes(run.pid)) < 3:
        time.sleep(0.05)
    time.sleep(1)
    run.kill()
    time.sleep(ORPHANS)
    left = [pid for pid in find_processes(run.pid) if pid != run.pid]
    sizes = [int(re.findall(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) // 1000 for pid in left]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    run.communicate()
    held = f"**{len(left)} processes live after {ORPHANS} s**, the largest with {max(sizes)} MB" if left else ""
    return held or f"no process lives after {ORPHANS} s"
