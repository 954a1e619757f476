"""Write docs/reliability.md: what became of bad files, killed runs and bad plugins, as seen when this ran.

    python docs/scripts/reliability.py [--inputs COUNT] [--kills COUNT]

In full, with 1000 inputs of each reader and 100 kills, it takes about half an hour of a processor.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dja_photplug.cli.app import main as photplug  # noqa: E402
from tests.fuzz.campaign import Findings, run_campaign  # noqa: E402
from tests.fuzz.kills import Kills, run_kills  # noqa: E402
from tests.fuzz.readers import PREFIX, READERS, make_seeds  # noqa: E402
from tests.helpers import copy_products, simulate_isolated  # noqa: E402
from tests.plugins.test_checks import BAD, EXPECTED, RAISED  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"
SCIENCE = f"{PREFIX}_drc_sci.fits.gz"

INTRODUCTION = """# Reliability

Bad input is refused in one line, in bounded time and memory; outputs are there whole, and all of a run, or not at all;
what a killed run left is removed, or finished, by the next one that writes in the same folder. This page is made by
`docs/scripts/reliability.py`, which runs what it tells; `tests/fuzz` has the same in a reduced form among the tests.

## Outputs

No output may be an input of its run, a member of a mosaic that it reads or the name of one, or another output, also
with `--overwrite`; links are followed. All outputs are written in a hidden folder, `.dja-photplug-...`, beside their
places and moved at the end: old ones go before the first new one comes, so that at no time some are beside some of
the others. A run that is killed meanwhile leaves a journal there, and the next one finishes what was begun and says so.
Folders of runs that live are locked, and stay. They are safe against the end of a process, not against a loss of power,
for which files are not forced to the disk.

Ctrl-C ends a run with status 130 and SIGTERM with 143; both wait for the short time in which files are moved or a
process starts. A worker that is lost is replaced once. Pipes and devices are neither read nor written.
"""


def set_card(path: Path, key: str, value: object) -> None:
    """Change a number in the first header of a file, whatever it says."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    at = content.index(f"{key:<8}=".encode())
    spoilt = content[:at] + f"{key:<8}= {value!s:>20}".encode().ljust(80) + content[at + 80 :]
    path.write_bytes(gzip.compress(spoilt, 1) if path.suffix == ".gz" else spoilt)


def spoil_log(folder: Path, column: str, value: str) -> None:
    """Change a cell of the first row of the log."""
    path = folder / f"{PREFIX}_wcs.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[lines[0].lower().split(",").index(column)] = value
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:], ""]))


def without_end(folder: Path) -> None:
    """Write a header without END."""
    text = b"SIMPLE  =                    T".ljust(80) + b"COMMENT x".ljust(80) * 2_000_000
    (folder / SCIENCE).write_bytes(gzip.compress(text, 1))


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


EXTEND = f"{PREFIX} --noise dja --columns aper --apertures 0.5 -o out.ecsv"
# What is given, how the folder is spoilt, and the command.
EXAMPLES: list[tuple[str, Callable[[Path], object] | None, str]] = [
    ("`-o` a member, with `--overwrite`", None, f"weight {PREFIX} -o {SCIENCE} --overwrite"),
    ("NAXIS -1", lambda f: set_card(f / SCIENCE, "NAXIS", -1), f"info {PREFIX}"),
    ("NAXIS 999999999", lambda f: set_card(f / SCIENCE, "NAXIS", 999999999), f"info {PREFIX}"),
    (
        "NAXIS1 100000000",
        lambda f: set_card(f / SCIENCE, "NAXIS1", 10**8),
        f"weight {PREFIX} -o w.fits",
    ),
    ("a header without END in gzip", without_end, f"info {PREFIX}"),
    ("3 MB of gzip that hold 3 GB", catalog_of_zeros, f"extend cat.fits.gz {EXTEND}"),
    ("a VOTable with `href`", link, f"extend cat.vot {EXTEND}"),
    ("a log with exptime -5", lambda f: spoil_log(f, "exptime", "-5"), f"epochs {PREFIX}"),
    ("a log with naxis1 0", lambda f: spoil_log(f, "naxis1", "0"), f"epochs {PREFIX}"),
    ("a log with crval2 91", lambda f: spoil_log(f, "crval2", "91"), f"epochs {PREFIX}"),
    ("a log with crpix1 1e300", lambda f: spoil_log(f, "crpix1", "1e300"), f"epochs {PREFIX}"),
    ("a pipe", lambda f: os.mkfifo(f / "log.csv"), "epochs log.csv"),
    ("a name of 300 characters", None, f"info {'x' * 300}-v1-f444w-clear"),
]


def run_example(prefix: Path, prepare: Callable[[Path], object] | None, command: str) -> str:
    """Return what is said of an example."""
    err, before = io.StringIO(), Path.cwd()
    with TemporaryDirectory() as place:
        folder = Path(place)
        copy_products(prefix, folder)
        if prepare:
            prepare(folder)
        os.chdir(folder)
        try:
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                status = photplug(command.split())
        finally:
            os.chdir(before)
    said = err.getvalue().replace("x" * 80, "xxx").strip()
    if status != 1 or "\n" in said:
        raise SystemExit(f"{command}: status {status}: {said}")
    return said.removeprefix("dja-photplug: ").replace("|", "\\|")


def format_page(examples: list[tuple[str, str]], findings: dict[str, Findings], kills: Kills, plugins: int) -> str:
    """Return the page."""
    lines = [INTRODUCTION, "## Examples\n", "| given | what is said |", "| --- | --- |"]
    lines += [f"| {given} | `{said}` |" for given, said in examples]
    lines += ["\n## Mutated files\n"]
    lines += ["| reader | inputs | refused | longest (s) | most memory (MB) | faults |", "| --- " * 6 + "|"]
    for name, found in findings.items():
        size = f"{found.seconds:.1f} | {found.memory / 1e6:.0f}"
        lines.append(f"| {name} | {found.inputs} | {found.refused} | {size} | {len(found.faults)} |")
    text = "A fault is an exception that is not `PhotplugError`, 20 s of a processor, or 1 GB."
    lines += [f"\n{text}\n", "## Killed runs\n", "| what | runs |", "| --- | --- |"]
    words = {
        "kills": "killed by SIGKILL, SIGTERM or SIGINT, or robbed of a worker",
        "finished": "finished all the same",
    }
    words |= {"partial": "left part of a file under its name", "mixed": "left files of two runs beside each other"}
    words |= {"orphans": "left a process after 5 s", "leftovers": "left a file after the next run began"}
    lines += [f"| {text} | {getattr(kills, name)} |" for name, text in words.items()]
    lines += ["\n## Bad plugins\n"]
    lines += [f"{plugins} plugins that give, raise or change what they should not: each is named, with its hook.\n"]
    return "\n".join(lines)


def main() -> None:
    """Run all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--findings", type=Path, nargs="*", help="of tests.fuzz.campaign -o, instead of running it")
    parser.add_argument("--killed", type=Path, help="of tests.fuzz.kills -o, instead of running it")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    findings: dict[str, Findings] = {}
    with TemporaryDirectory() as place:
        prefix = simulate_isolated(Path(place)).prefix
        examples = [(given, run_example(prefix, prepare, command)) for given, prepare, command in EXAMPLES]
        seeds = make_seeds(prefix, Path(place))
        for path in arguments.findings or ():
            findings |= {name: Findings(**values) for name, values in json.loads(path.read_text()).items()}
        for name, reader in READERS.items() if not arguments.findings else ():
            findings[name] = run_campaign(reader, seeds[reader.file], Path(place), arguments.inputs, 1)
            print(name, asdict(findings[name]), flush=True)
    killed = arguments.killed
    kills = run_kills(arguments.kills, 1) if killed is None else Kills(**json.loads(killed.read_text()))
    checks = ROOT / "tests" / "plugins" / "test_checks.py"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-n0", str(checks)], check=True, cwd=ROOT)
    PAGE.write_text(format_page(examples, findings, kills, len(BAD) + len(EXPECTED) * len(RAISED)), encoding="utf-8")


if __name__ == "__main__":
    main()
