"""Mosaics on servers, which may not be there, or not do what they should."""

from __future__ import annotations

from pathlib import Path

from tests.inputs.cases import Case
from tests.inputs.files import PREFIX
from tests.remote.server import Fault

KIND = "Servers"
FETCH = "fetch sim-test-v7.4 f444w -o here --base-url http://server"


def write_index(folder: Path) -> None:
    """List the files for those who ask, as the archive does."""
    names = sorted(path.name for path in folder.iterdir())
    (folder / "index.csv").write_text("file\n" + "\n".join(names) + "\n")


def check_fetched(folder: Path) -> None:
    """See that what was fetched is what was there."""
    products = list(folder.glob(f"{PREFIX}_[dw]*"))
    assert {path.name for path in products} == {path.name for path in (folder / "here").iterdir()}
    for path in products:
        assert (folder / "here" / path.name).read_bytes() == path.read_bytes()


def put_older(folder: Path) -> None:
    """Have a file of that name in the folder to fetch into."""
    (folder / "here").mkdir()
    (folder / "here" / f"{PREFIX}_wcs.csv").write_text("another")


CASES = (
    Case(kind=KIND, given="a mosaic on a server", command=f"info http://server/{PREFIX}", outcome="obeyed", faults=()),
    Case(
        kind=KIND,
        given="a cut-out of it",
        command=f"weight http://server/{PREFIX}_drc_sci.fits.gz -o out.fits --cutout 34.4 -5.2 1",
        outcome="obeyed",
        faults=(),
    ),
    Case(kind=KIND, given="its log", command=f"epochs http://server/{PREFIX}_wcs.csv", outcome="obeyed", faults=()),
    Case(kind=KIND, given="a field to be fetched", command=FETCH, outcome="obeyed", check=check_fetched, faults=()),
    Case(
        kind=KIND,
        given="a server that breaks off, is busy, and goes on",
        command=FETCH,
        outcome="obeyed",
        check=check_fetched,
        faults=(Fault(name="sci.fits.gz", after=50_000, times=2), Fault(name="wht.fits.gz", status=503, times=3)),
    ),
    Case(
        kind=KIND,
        given="a filter with a typo",
        command="info http://server/sim-test-v7.4-f440w-clear",
        outcome="refused",
        says=("no such mosaic", f"did you mean http://server/{PREFIX}"),
        prepare=write_index,
        faults=(),
    ),
    Case(
        kind=KIND,
        given="a filter that is not there, and a server without an index",
        command="fetch sim-test-v7.4 f277w --base-url http://server",
        outcome="refused",
        says=("no such mosaic", "no index"),
        faults=(),
    ),
    Case(
        kind=KIND,
        given="a field that is not there",
        command="fetch --list sim-test-v7.5 --base-url http://server",
        outcome="refused",
        says=("no mosaics of sim-test-v7.5", "did you mean sim-test-v7.4"),
        prepare=write_index,
        faults=(),
    ),
    Case(
        kind=KIND,
        given="no filter",
        command="fetch sim-test-v7.4",
        outcome="refused",
        says=("give a field and its filters",),
    ),
    Case(
        kind=KIND,
        given="a file that is not the server's",
        command=FETCH,
        outcome="refused",
        says=("is not the file at", "--overwrite"),
        prepare=put_older,
        faults=(),
    ),
    Case(
        kind=KIND,
        given="a server that is busy all the time",
        command=FETCH,
        outcome="refused",
        says=("503", "try again later"),
        faults=(Fault(status=503),),
    ),
    Case(
        kind=KIND,
        given="a server that leads to a file of one's own",
        command=FETCH,
        outcome="refused",
        says=("redirects to file:", "refused"),
        faults=(Fault(status=302, location="file:///etc/hostname"),),
    ),
    Case(
        kind=KIND,
        given="a server that sends something else",
        command=f"info http://server/{PREFIX}",
        outcome="refused",
        says=("sci.fits.gz", "truncated or damaged"),
        faults=(Fault(name="sci.fits.gz", change=lambda piece: b"-" * len(piece)),),
    ),
    Case(
        kind=KIND,
        given="a cut-out from a server without parts of files",
        command=f"weight http://server/{PREFIX} -o out.fits --cutout 34.4 -5.2 1",
        outcome="refused",
        says=("no parts of files", "dja-photplug fetch"),
        faults=(Fault(ranges=False),),
    ),
    Case(
        kind=KIND,
        given="a server that is not there",
        command=f"info https://127.0.0.1:9/{PREFIX}",
        outcome="refused",
        says=("cannot be reached", "check the network"),
    ),
    Case(
        kind=KIND,
        given="a URL of another kind",
        command=f"info ftp://example.org/{PREFIX}",
        outcome="refused",
        says=("ftp URLs are not supported", "https or s3"),
    ),
    Case(
        kind=KIND,
        given="a URL that is not encrypted",
        command=f"info http://example.org/{PREFIX}",
        outcome="refused",
        says=("not encrypted", "give https"),
    ),
    Case(
        kind=KIND,
        given="a URL with a password",
        command=f"info https://me:secret@example.org/{PREFIX}",
        outcome="refused",
        says=("https://example.org: a URL with a user's name",),
    ),
    Case(
        kind=KIND,
        given="a URL to write to",
        command=f"weight {PREFIX} -o https://example.org/out.fits",
        outcome="refused",
        says=("outputs are written on disk",),
    ),
)
