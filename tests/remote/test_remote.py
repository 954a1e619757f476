"""Mosaics on servers: what is read of them, how much of it, and what becomes of servers that misbehave."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

import dja_photplug as dp
from dja_photplug.errors import PhotplugError
from dja_photplug.files.pixels import ImageReader, check_product
from dja_photplug.files.written import write_image
from dja_photplug.remote import transport
from dja_photplug.remote.cache import cache_path, download, local_copies
from dja_photplug.remote.paths import as_path
from dja_photplug.simulate.mosaic import SimulatedMosaic
from tests.helpers import JWST_HEADER, copy_products, make_wcs
from tests.remote.server import Fault, FolderServer

NAME = "sim-test-v7.4-f444w-clear"
BIG = "big-test-v7.4-f444w-clear"


def write_sparse(folder: Path, side: int, name: str = BIG) -> SkyCoord:
    """Write sci, wht and exp whose empty rows take no space on disk; return the middle, where they are not empty."""
    wcs = make_wcs(crpix=(side / 2 + 0.5, side / 2 + 0.5))
    for kind, step in (("sci", 1), ("wht", 1), ("exp", 4)):
        shape, header = (100, side // step), fits.PrimaryHDU().header
        pixels = {
            "sci": np.random.default_rng(0).normal(0, 0.4, shape).astype(">f4"),
            "wht": np.full(shape, 4, ">f4"),
            "exp": np.full(shape, 1000 - 2**31, ">i4"),
        }[kind]
        header["BITPIX"], header["NAXIS"] = 32 if kind == "exp" else -32, 2
        header["NAXIS1"] = header["NAXIS2"] = side // step
        if kind == "exp":
            header.update({"SAMPLE": 4, "NXORIG": side, "NYORIG": side, "BZERO": 2**31, "BSCALE": 1})
            header.update({f"CRPIX{axis}": (side / 2 + 0.5) / 4 for axis in (1, 2)})
        else:
            header.update(wcs.to_header())
            header.update(JWST_HEADER)
        text, row = header.tostring().encode(), 4 * (side // step)
        with (folder / f"{name}_drc_{kind}.fits").open("wb") as file:
            file.write(text)
            file.truncate(len(text) + -(-row * (side // step) // 2880) * 2880)
            file.seek(len(text) + row * (side // step // 2 - 50))
            file.write(pixels.tobytes())
    return SkyCoord(*wcs.wcs.crval, unit="deg")


def write_noise(path: Path, size: int, seed: int = 0) -> bytes:
    """Write an image that does not pack well, of about `size` bytes; return them."""
    pixels = np.random.default_rng(seed).normal(size=(size // 4000, 1000)).astype(np.float32)
    write_image(path, pixels, make_wcs().to_header())
    return path.read_bytes()


def fetch_one(server: FolderServer, name: str, folder: Path) -> bytes:
    """Fetch one file of a server into a folder; return what is there."""
    folder.mkdir(exist_ok=True)
    download({f"{server.url}/{name}": folder / name}, check_product)
    return (folder / name).read_bytes()


# ---- what is read


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_mosaic_on_a_server_is_that_on_disk(
    packed: bool, simulated: SimulatedMosaic, server: FolderServer, tmp_path: Path
) -> None:
    copy_products(simulated.prefix, server.folder)
    if not packed:
        for path in list(server.folder.glob("*.gz")):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    local, remote = dp.find_mosaic(server.folder / NAME), dp.find_mosaic(f"{server.url}/{NAME}")
    assert str(remote) == f"{server.url}/{NAME}"
    assert str(remote.science) == f"{server.url}/{local.science.name}"
    assert remote.beside("f444w") == remote
    assert remote.beside("f200w") is None
    ny, nx = local.grid().shape
    part = (slice(ny // 2, ny // 2 + 40), slice(nx // 2, nx // 2 + 60))
    for noise, cutout in (("calibrated", part), ("dja", part), ("calibrated", None)):
        there, here = (dp.load_mosaic(files, noise, cutout) for files in (remote, local))
        for plane in ("data", "background_weight", "mask"):
            np.testing.assert_array_equal(getattr(there, plane), getattr(here, plane))
        np.testing.assert_array_equal(there.uncertainty.array, here.uncertainty.array)
        assert there.meta == here.meta
        assert there.wcs.wcs.compare(here.wcs.wcs)
    np.testing.assert_array_equal(dp.read_exposure_log(remote.log).table["file"], simulated_log(local))
    # Whole images were fetched into the cache, from where all is read now.
    before = server.total
    dp.load_mosaic(remote, "calibrated")
    dp.load_mosaic(remote, "calibrated", part)
    assert server.total == before
    assert cache_path(str(remote.science)).read_bytes() == local.science.read_bytes()
    # Another file of that name is fetched again.
    other = dp.load_mosaic(local).data + 1
    write_image(local.science, other, fits.getheader(local.science), overwrite=True)
    os.utime(local.science, (2e9, 2e9))
    transport.describe.cache_clear()
    np.testing.assert_array_equal(dp.load_mosaic(remote).data, other)


def simulated_log(files: dp.MosaicFiles) -> np.ndarray:
    return dp.read_exposure_log(files.log).table["file"]


def test_cutout_of_a_large_mosaic_moves_little(server: FolderServer) -> None:
    centre = write_sparse(server.folder, 12000)
    image = dp.load_mosaic(f"{server.url}/{BIG}", "dja", (centre, 3 * u.arcsec))
    assert image.shape == (75, 75)
    light, gain = np.maximum(image.data, 0), image.meta["PHOTSCLE"] * 1000
    assert np.std(image.data) == pytest.approx(0.4, rel=0.05)
    np.testing.assert_allclose(image.uncertainty.array, 1 / (1 / 4 + light / gain), rtol=1e-5)
    assert server.total < 0.02 * 12000**2 * 4
    # Few requests: those for a header, and one or two for the rows of each file.
    assert sum(request.startswith("GET") and "bytes=" in request for request in server.requests) < 15


def test_gzipped_cutout_stops_behind_its_rows_and_the_next_begins_near_them(server: FolderServer) -> None:
    content = write_noise(server.folder / "noise.fits.gz", 24_000_000)
    pixels = fits.getdata(server.folder / "noise.fits.gz")
    window = (slice(3900, 3950), slice(10, 30))

    def read() -> int:
        before = server.total
        with ImageReader(f"{server.url}/noise.fits.gz") as reader:
            for rows, block in reader.blocks(window):
                np.testing.assert_array_equal(block, pixels[3900:3950, 10:30][rows])
        return server.total - before

    first = read()
    assert 0.6 * len(content) < first < 0.85 * len(content)
    transport.describe.cache_clear()
    assert read() < 0.05 * first, "blocks that were read are read again"
    server_blocks_forgotten()
    # From a place before it, of 2 MB apart, and what is read ahead.
    assert read() < 4_000_000
    [index] = cache_path(f"{server.url}/noise.fits.gz").parent.glob(".*.gzidx-*")
    index.write_bytes(b"damaged")
    server_blocks_forgotten()
    assert read() > 0.6 * len(content)


def server_blocks_forgotten() -> None:
    from dja_photplug.remote import ranges

    ranges._BLOCKS._blocks.clear()


def test_cutouts_of_places_and_bands(server: FolderServer, slow: bool) -> None:
    side, n_bands, n_places = (12000, 8, 100) if slow else (1200, 2, 3)
    names = [f"big-test-v7.4-f{100 + i}w-clear" for i in range(n_bands)]
    for name in names:
        centre = write_sparse(server.folder, side, name)
    rng = np.random.default_rng(0)
    offsets = rng.uniform(-1.8, 1.8, (2, n_places)) * u.arcsec
    positions = centre.spherical_offsets_by(*offsets)
    positions = SkyCoord([*positions.ra, centre.ra + 1 * u.deg], [*positions.dec, centre.dec])
    made = dp.cutouts(positions, [f"{server.url}/{name}" for name in names], 0.4 * u.arcsec)
    assert list(made) == [f"f{100 + i}w" for i in range(n_bands)]
    assert made.bytes_moved == server.total
    for images in made.values():
        assert images[-1] is None, "a place off the mosaic"
        assert all(image.shape == (10, 10) for image in images[:-1])
        assert all(np.all(image.data != 0) for image in images[:-1])
    print(f"{made.bytes_moved / 1e6:.1f} MB for {n_places} places in {n_bands} bands")
    assert made.bytes_moved < 0.02 * n_bands * 12000**2 * 4
    with pytest.raises(PhotplugError, match="two mosaics are in the band f100w"):
        dp.cutouts(positions, [f"{server.url}/{names[0]}"] * 2)


# ---- servers that misbehave


@pytest.mark.parametrize(
    "fault",
    [
        Fault(after=300_000, times=4),
        Fault(after=0, times=5),
        Fault(status=503, times=3),
        Fault(status=429, times=2),
        Fault(pause=0.02),
        Fault(longer=1000, times=1),
        Fault(ranges=False),
        Fault(ranges=False, after=600_000, times=2),
        Fault(change=lambda piece: piece[:-1000], times=1),
    ],
    ids=["breaks", "nothing", "503", "429", "slow", "longer", "no ranges", "no ranges, breaks", "shorter"],
)
def test_file_comes_whole_from_a_server_that_misbehaves(fault: Fault, server: FolderServer, tmp_path: Path) -> None:
    content = write_noise(server.folder / "noise.fits.gz", 900_000)
    server.faults.append(fault)
    assert fetch_one(server, "noise.fits.gz", tmp_path / "here") == content
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["noise.fits.gz"]


def flip(piece: bytes) -> bytes:
    return piece[:-5000] + bytes([piece[-5000] ^ 1]) + piece[-4999:]


@pytest.mark.parametrize(
    ("name", "fault", "told"),
    [
        ("noise.fits.gz", Fault(change=flip), "incomplete download: .*damaged"),
        ("noise.fits", Fault(change=lambda piece: b" " * len(piece)), "incomplete download: not a FITS file"),
        ("short.fits", Fault(), "incomplete download: the file is truncated"),
        ("page.csv", Fault(), "incomplete download: is no table"),
        ("noise.fits", Fault(after=0), r"the connection to \S+ failed 6 times; try again later"),
        ("noise.fits", Fault(status=503), "answers 503, also after 6 tries; try again later"),
        ("noise.fits", Fault(status=418), "the server answers 418"),
        ("noise.fits", Fault(status=302, location="file:///etc/hostname"), "redirects to file:///.*refused"),
        ("noise.fits", Fault(ranges=False, after=900_000), "the connection failed 6 times"),
        ("absent.fits", Fault(), "the server has no such file"),
    ],
)
def test_what_does_not_come_whole_is_told_in_one_line(
    name: str, fault: Fault, told: str, server: FolderServer, tmp_path: Path
) -> None:
    content = write_noise(server.folder / "noise.fits.gz", 1_200_000)
    plain = gzip.decompress(content)
    (server.folder / "noise.fits").write_bytes(plain)
    (server.folder / "short.fits").write_bytes(plain[:-50_000])
    (server.folder / "page.csv").write_text("<html>\n<p>Log in, please</p>\n")
    server.faults.append(fault)
    with pytest.raises(PhotplugError, match=told) as raised:
        fetch_one(server, name, tmp_path / "here")
    assert str(raised.value).startswith(f"{server.url}/{name}: ")
    assert "\n" not in str(raised.value)
    assert [path.name for path in (tmp_path / "here").iterdir() if ".part-" not in path.name] == []


def test_part_of_a_file_needs_a_server_that_gives_parts(server: FolderServer) -> None:
    write_noise(server.folder / "noise.fits", 1_200_000)
    server.faults.append(Fault(ranges=False))
    with pytest.raises(PhotplugError, match="gives no parts of files; fetch it whole"):
        ImageReader(f"{server.url}/noise.fits")


def test_file_that_changes_while_it_is_read_is_refused(server: FolderServer) -> None:
    path = server.folder / "noise.fits"
    write_noise(path, 1_200_000)
    with ImageReader(f"{server.url}/noise.fits") as reader:
        os.utime(path, (2e9, 2e9))
        with pytest.raises(PhotplugError, match="changed while it was being read"):
            list(reader.blocks((slice(200, 250), slice(0, 10))))


def test_file_that_changes_while_it_comes_is_refused(server: FolderServer, tmp_path: Path) -> None:
    path = server.folder / "noise.fits"
    content = write_noise(path, 900_000)

    def change(piece: bytes) -> bytes:
        os.utime(path, (2e9, 2e9))
        return piece

    server.faults.append(Fault(change=change, times=1))
    with pytest.raises(PhotplugError, match="changed while it was being read; try again"):
        fetch_one(server, "noise.fits", tmp_path / "here")
    assert fetch_one(server, "noise.fits", tmp_path / "here") == content


def test_silent_server_is_given_up(server: FolderServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_noise(server.folder / "noise.fits", 100_000)
    monkeypatch.setattr(transport, "SILENCE", 0.05)
    server.faults.append(Fault(name="noise.fits", pause=0.2))
    with pytest.raises(PhotplugError, match="has sent nothing for 0.05 s, 6 times"):
        fetch_one(server, "noise.fits", tmp_path / "here")


def test_broken_transfer_goes_on_where_it_broke_off(server: FolderServer, tmp_path: Path, slow: bool) -> None:
    total = 100_000_000 if slow else 4_000_000
    content = write_noise(server.folder / "noise.fits", total)
    server.faults.append(Fault(after=total * 6 // 10, times=1))
    server.faults.append(Fault(after=0, times=transport.TRIES - 1))
    with pytest.raises(PhotplugError, match="failed 6 times"):
        fetch_one(server, "noise.fits", tmp_path / "here")
    [part] = (tmp_path / "here").iterdir()
    had, sent = part.stat().st_size, server.sent["noise.fits"]
    print(f"broken: {had} bytes kept of {sent} sent, {len(content)} in all")
    # What is on its way when a connection breaks may be lost.
    assert sent - had < 300_000
    assert fetch_one(server, "noise.fits", tmp_path / "here") == content
    assert server.sent["noise.fits"] - sent == len(content) - had
    # It is there now, and nothing is asked for but its size.
    fetch_one(server, "noise.fits", tmp_path / "here")
    assert server.sent["noise.fits"] - sent == len(content) - had


def test_part_of_another_version_is_not_gone_on_with(server: FolderServer, tmp_path: Path) -> None:
    write_noise(server.folder / "noise.fits", 1_200_000)
    server.faults.append(Fault(after=600_000, times=1))
    server.faults.append(Fault(after=0, times=transport.TRIES - 1))
    with pytest.raises(PhotplugError, match="failed 6 times"):
        fetch_one(server, "noise.fits", tmp_path / "here")
    (server.folder / "noise.fits").unlink()
    content = write_noise(server.folder / "noise.fits", 1_200_000, seed=1)
    os.utime(server.folder / "noise.fits", (1.9e9, 1.9e9))
    transport.describe.cache_clear()
    assert fetch_one(server, "noise.fits", tmp_path / "here") == content
    assert len(list((tmp_path / "here").iterdir())) == 1
    # A part that was damaged on disk is fetched anew.
    [file] = (tmp_path / "here").iterdir()
    version = transport.describe(f"{server.url}/noise.fits").version
    file.rename(file.with_name(f".{version}.part-noise.fits"))
    with file.with_name(f".{version}.part-noise.fits").open("r+b") as part:
        part.write(b"nonsense")
    assert fetch_one(server, "noise.fits", tmp_path / "here") == content


def start_fetching(server: FolderServer, name: str, folder: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from dja_photplug.remote.cache import download;"
        "from dja_photplug.files.pixels import check_product;"
        "print(len(download({sys.argv[1]: Path(sys.argv[2])}, check_product)))"
    )
    command = [sys.executable, "-c", code, f"{server.url}/{name}", str(folder / name)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_and_one_that_is_killed_fetch_one_file(server: FolderServer, tmp_path: Path) -> None:
    content, here = write_noise(server.folder / "noise.fits", 4_000_000), tmp_path / "here"
    here.mkdir()
    fault = Fault(pause=0.2)
    server.faults.append(fault)
    killed = start_fetching(server, "noise.fits", here)
    while not any(path.stat().st_size > 500_000 for path in here.iterdir()):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    [part] = here.iterdir()
    had, fault.pause = part.stat().st_size, 0.02
    time.sleep(0.3)  # the server finds out that nobody listens
    before = server.sent["noise.fits"]
    both = [start_fetching(server, "noise.fits", here) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert sorted(said) == [("0\n", ""), ("1\n", "")], "one fetched it, and one found it"
    assert (here / "noise.fits").read_bytes() == content
    assert server.sent["noise.fits"] - before == len(content) - had
    assert [path.name for path in here.iterdir()] == ["noise.fits"]


def test_full_disk_is_no_failure_of_the_server(server: FolderServer, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    write_noise(server.folder / "noise.fits", 100_000)
    file, n_requests = transport.describe(f"{server.url}/noise.fits"), len(server.requests)
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        transport.read_bytes(file, 0, file.size, full.write)
    assert len(server.requests) == n_requests + 1


def test_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(PhotplugError, match=r"the extra 'remote' \(fsspec is missing\); install it with pip install"):
        dp.find_mosaic(f"https://example.org/{NAME}")


def test_proxy_of_the_environment_is_asked(server: FolderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(PhotplugError, match=r"example\.org cannot be reached through the proxy 127\.0\.0\.1:9 "):
        dp.find_mosaic(f"https://example.org/{NAME}")
    write_noise(server.folder / "noise.fits", 10_000)
    assert as_path(f"{server.url}/noise.fits").is_file(), "this machine is asked without"


def test_copies_of_a_server_lie_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJA_PHOTPLUG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_path("https://a.org/b/c.fits") == tmp_path / "dja_photplug" / "a.org" / "b" / "c.fits"
    (tmp_path / "dja_photplug").write_text("")
    with pytest.raises(PhotplugError, match="cannot create the cache folder .*set DJA_PHOTPLUG_CACHE"):
        local_copies([as_path("https://a.org/b/c.fits")], check_product)
