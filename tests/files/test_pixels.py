"""The reader and writer of pixels, against astropy's."""

from __future__ import annotations

import gzip
import os
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from dja_photplug.errors import PhotplugError
from dja_photplug.files import pixels as reading
from dja_photplug.files import written
from dja_photplug.files.pixels import ImageReader, read_image
from dja_photplug.files.written import write_hdus, write_image, write_rows
from dja_photplug.parallel.scratch import Unnamed

SHAPE = (37, 23)
RNG = np.random.default_rng(7)
IMAGES: dict[str, np.ndarray] = {
    "float32": RNG.normal(size=SHAPE).astype(np.float32),
    "float64": RNG.normal(size=SHAPE),
    "uint8": RNG.integers(0, 255, SHAPE).astype(np.uint8),
    "int16": RNG.integers(-3000, 3000, SHAPE).astype(np.int16),
    "int32": RNG.integers(-(2**31), 2**31, SHAPE).astype(np.int32),
    "int64": RNG.integers(-(2**60), 2**60, SHAPE),
    "uint16": RNG.integers(0, 2**16, SHAPE).astype(np.uint16),  # BZERO 32768
    "uint32": RNG.integers(0, 2**32, SHAPE).astype(np.uint32),  # BZERO 2147483648, as exposure maps
}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    """See that no inflating thread outlives its test, however the reading ended."""
    yield
    assert [thread.name for thread in threading.enumerate() if "inflating" in thread.name] == []


def pack(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def save(path: Path, *hdus: Any) -> Path:
    """Write HDUs with astropy and gzip with Python's own, so that the writer under test has no part in it."""
    plain = path.with_name("plain.fits")
    fits.HDUList(list(hdus)).writeto(plain, overwrite=True)
    return pack(path, plain.read_bytes())


SUFFIXES = pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])


@SUFFIXES
@pytest.mark.parametrize("kind", IMAGES)
def test_every_type_reads_as_with_astropy(tmp_path: Path, kind: str, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", fits.PrimaryHDU(IMAGES[kind]))
    image, header = read_image(path)
    expected = fits.getdata(path)
    assert expected.dtype.newbyteorder("=") == IMAGES[kind].dtype
    np.testing.assert_array_equal(image, expected.astype(np.float32))
    assert image.dtype == np.dtype("float32")
    assert image.dtype.isnative
    assert image.flags.c_contiguous
    assert image.flags.owndata
    assert header == fits.getheader(path)


@pytest.mark.parametrize(("scale", "zero"), [(0.25, 0), (1, 100.5), (-2.5, 3)])
def test_scaled_integers_read_as_with_astropy(tmp_path: Path, scale: float, zero: float) -> None:
    hdu = fits.PrimaryHDU(IMAGES["int16"])
    hdu.header["BLANK"] = int(IMAGES["int16"][3, 4])
    path = save(tmp_path / "a.fits", hdu)
    # Card by card, because astropy would rescale the pixels to the header it is given.
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BSCALE"], hdus[0].header["BZERO"] = scale, zero
    expected = fits.getdata(path).astype(np.float32)
    assert np.isnan(expected[3, 4])
    np.testing.assert_array_equal(read_image(path)[0], expected)


def test_blank_is_nan_without_scaling_and_nothing_for_floats(tmp_path: Path) -> None:
    image = IMAGES["int32"].copy()
    image[5, :7] = image[30, 2] = -1
    for data, blank in ((image, image == -1), (image.astype(np.float32), np.zeros(SHAPE, bool))):
        path = save(tmp_path / "a.fits", fits.PrimaryHDU(data))
        plain = path.read_bytes()
        card = fits.Card("BLANK", -1).image.encode()  # astropy itself refuses to write it to floats
        path.write_bytes(plain[:2880].replace(b"END".ljust(80) + b" " * 80, card + b"END".ljust(80)) + plain[2880:])
        np.testing.assert_array_equal(np.isnan(read_image(path)[0]), blank)


@SUFFIXES
def test_the_image_may_stand_behind_other_hdus(tmp_path: Path, suffix: str) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("n", "J", array=np.arange(1000))])
    words = fits.BinTableHDU.from_columns([fits.Column("w", "PI()", array=[np.arange(n) for n in (3, 900)])])  # a heap
    cube = fits.ImageHDU(np.zeros((2, 3, 4), np.int16))
    line = fits.ImageHDU(np.arange(5.0))
    image = fits.ImageHDU(IMAGES["float32"], name="SCI")
    after = fits.ImageHDU(IMAGES["float64"], name="ERR")
    for before in ([fits.PrimaryHDU()], [fits.PrimaryHDU(), table], [fits.PrimaryHDU(np.arange(9)), words, cube, line]):
        path = save(tmp_path / f"a{suffix}", *before, image, after)
        pixels, header = read_image(path)
        np.testing.assert_array_equal(pixels, IMAGES["float32"])
        assert header["EXTNAME"] == "SCI"


WINDOWS = [
    None,
    (slice(0, 37), slice(0, 23)),
    (slice(0, 1), slice(0, 1)),
    (slice(36, 37), slice(22, 23)),
    (slice(5, 31), slice(3, 20)),
    (slice(10, 37), slice(0, 2)),
]


@SUFFIXES
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("rows", [0.5, 1, 3, 36, 37, 38, 1e6])
def test_windows_and_blocks_of_any_height(
    tmp_path: Path, suffix: str, window: Any, rows: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_PIXELS", int(rows * SHAPE[1]))
    path = save(tmp_path / f"a{suffix}", fits.PrimaryHDU(IMAGES["float32"]))
    expected = IMAGES["float32"] if window is None else IMAGES["float32"][window]
    np.testing.assert_array_equal(read_image(path, window)[0], expected)
    with ImageReader(path) as reader:
        assert reader.shape == SHAPE
        edges = [0]
        for part, pixels in reader.blocks(window):
            assert part.start == edges[-1]  # from the top, counted from the window's first row
            assert part.stop - part.start <= max(1, rows)
            np.testing.assert_array_equal(pixels, expected[part])
            edges.append(part.stop)
    assert edges[-1] == len(expected)


def test_a_header_of_3500_cards(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(IMAGES["float32"])
    for number in range(3500):
        hdu.header[f"E{number:05d}"] = (number, "exposure")
    hdu.header["HISTORY"] = "END"
    path = save(tmp_path / "a.fits.gz", hdu)
    image, header = read_image(path)
    assert header == fits.getheader(path)
    assert header["E03499"] == 3499
    np.testing.assert_array_equal(image, IMAGES["float32"])


@pytest.mark.parametrize("cards", range(25, 40))
def test_the_end_card_anywhere_in_its_record(tmp_path: Path, cards: int) -> None:
    hdu = fits.PrimaryHDU(IMAGES["uint8"], fits.Header([(f"KEY{i}", i) for i in range(cards)]))
    path = save(tmp_path / "a.fits", hdu)
    image, header = read_image(path)
    np.testing.assert_array_equal(image, IMAGES["uint8"])
    assert header[f"KEY{cards - 1}"] == cards - 1


def test_real_mosaics_read_as_with_astropy(data: Path) -> None:
    for path in sorted((data / "uds").glob("*f115w*.fits.gz")):
        image, header = read_image(path)
        expected, cards = fits.getdata(path, header=True)
        np.testing.assert_array_equal(image, expected.astype(np.float32))
        assert header == cards
        window = (slice(300, 333), slice(17, 99)) if "exp" not in path.name else (slice(3, 9), slice(1, 8))
        np.testing.assert_array_equal(read_image(path, window)[0], expected[window].astype(np.float32))


def cut(path: Path, length: int) -> Path:
    path.write_bytes(path.read_bytes()[:length])
    return path


def test_a_gz_cut_anywhere_is_told(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.fits.gz", fits.PrimaryHDU(IMAGES["float32"])).read_bytes()
    path = tmp_path / "cut.fits.gz"
    steps = [*range(1, 40), *range(40, len(whole) - 40, 97), *range(len(whole) - 40, len(whole))]
    for length in steps:
        path.write_bytes(whole[:length])
        with pytest.raises(PhotplugError, match=r"cut\.fits\.gz: the file is truncated or damaged \(.+\); fetch"):
            read_image(path)


@pytest.mark.parametrize("place", [-1, -5, -300, 1500])
def test_a_gz_with_a_wrong_byte_is_told(tmp_path: Path, place: int) -> None:
    path = save(tmp_path / "a.fits.gz", fits.PrimaryHDU(IMAGES["float32"]))
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(PhotplugError, match=r"a\.fits\.gz: the file is truncated or damaged \(.+\); fetch it again"):
        read_image(path)


def test_the_checksum_is_not_reached_by_a_window(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits.gz", fits.PrimaryHDU(np.zeros((5000, 500), np.float32)))
    content = path.read_bytes()
    path.write_bytes(content[:-8])  # a download that still runs: what is there can be looked at
    window = (slice(0, 10), slice(0, 10))
    assert read_image(path, window)[0].shape == (10, 10)


def test_a_gz_with_a_wrong_bit_before_a_window_is_told_where_its_bytes_are_shifted(tmp_path: Path) -> None:
    """By pixels of any size, as the checksum is behind; what changes a few pixels in place cannot be known."""
    rng = np.random.default_rng(2)
    image = rng.normal(size=(800, 800)).astype(np.float32)
    image[:2, :3] = [[3e38, np.inf, np.nan], [-1e35, 3e38, np.nan]]  # such as stand for no data
    path, window = save(tmp_path / "a.fits.gz", fits.PrimaryHDU(image)), (slice(0, 100), slice(0, 800))
    content, told = path.read_bytes(), 0
    np.testing.assert_array_equal(read_image(path, window)[0], image[window])
    for place in rng.integers(500, len(content) // 8, 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            changed = read_image(path, window)[0] != image[window]
        except PhotplugError as error:
            told += "truncated or damaged (it has pixels of " in str(error)
        else:
            assert np.count_nonzero(changed[2:]) < 20
    assert told > 5


@pytest.mark.parametrize("length", [1, 80, 2879, 2880, 2881, 5000, 2880 + 4 * 37 * 23 - 1])
def test_a_plain_file_cut_anywhere_is_told(tmp_path: Path, length: int) -> None:
    path = cut(save(tmp_path / "a.fits", fits.PrimaryHDU(IMAGES["float32"])), length)
    expected = "not a FITS file" if length < 9 else "truncated or damaged"
    with pytest.raises(PhotplugError, match=rf"a\.fits: .*{expected}"):
        read_image(path)
    if length > 2880:
        with pytest.raises(PhotplugError, match="truncated or damaged"):
            read_image(path, (slice(36, 37), slice(0, 1)))  # the rows before are skipped, not read


@SUFFIXES
def test_a_file_cut_before_its_image_is_not_one_without(tmp_path: Path, suffix: str) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("n", "J", array=np.arange(5000))])
    path = save(tmp_path / f"a{suffix}", fits.PrimaryHDU(), table, fits.ImageHDU(IMAGES["float32"]))
    whole = (tmp_path / "plain.fits").read_bytes()
    for length in (2880 + 100, 2880 * 2 + 30, 2880 * 4 + 7, 2880 * 9 + 500):
        pack(path, whole[:length])  # a sound gzip of half a file
        with pytest.raises(PhotplugError, match="truncated or damaged"):
            ImageReader(path)


@SUFFIXES
def test_a_file_without_image_is_told(tmp_path: Path, suffix: str) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("n", "J", array=np.arange(10))])
    for hdus in ([fits.PrimaryHDU()], [fits.PrimaryHDU(), table], [fits.PrimaryHDU(np.zeros((2, 2, 2)))]):
        path = save(tmp_path / f"a{suffix}", *hdus)
        with pytest.raises(PhotplugError, match=r"a\.fits.*: holds no two-dimensional image"):
            ImageReader(path)
    path = save(tmp_path / f"b{suffix}", fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((20, 20), np.float32)))
    with pytest.raises(PhotplugError, match=r"b\.fits.*: its image is tile-compressed.*; unpack it with funpack"):
        ImageReader(path)


@SUFFIXES
@pytest.mark.parametrize("content", [b"<html>404</html>", b"\0" * 10_000, b"SIMPLE" + b" " * 9000])
def test_what_is_not_fits_is_told(tmp_path: Path, suffix: str, content: bytes) -> None:
    with pytest.raises(PhotplugError, match=r"a\.fits.*: not a FITS file; give a DJA product"):
        read_image(pack(tmp_path / f"a{suffix}", content))


@SUFFIXES
def test_an_empty_or_missing_file_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(PhotplugError, match=r"a\.fits.*: cannot be read \(No such file or directory\)"):
        read_image(path)
    path.touch()
    with pytest.raises(PhotplugError, match=r"a\.fits.*: the file is empty"):
        read_image(path)
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    with pytest.raises(PhotplugError, match=r"cannot be read \(Is a directory\)"):
        read_image(folder)


def test_a_gz_that_is_none_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits", fits.PrimaryHDU(IMAGES["float32"])).rename(tmp_path / "a.fits.gz")
    with pytest.raises(PhotplugError, match=r"a\.fits\.gz: the file is truncated or damaged \(Not a gzipped file"):
        read_image(path)
    packed = pack(tmp_path / "b.fits.gz", b"x").rename(tmp_path / "b.fits")
    with pytest.raises(PhotplugError, match=r"b\.fits: not a FITS file"):
        read_image(packed)


@pytest.mark.parametrize(
    ("card", "instead"),
    [
        ("BITPIX  =                  -32", "BITPIX  =                  -33"),
        ("NAXIS   =                    2", "NAXOS   =                    2"),
        ("NAXIS1  =                   23", "NAXIS9  =                   23"),
        ("NAXIS   =                    2", "NAXIS   = 'two'               "),
        ("NAXIS   =                    2", "NAXIS   = 2 3                 "),
    ],
)
def test_a_broken_header_is_told(tmp_path: Path, card: str, instead: str) -> None:
    path = save(tmp_path / "a.fits", fits.PrimaryHDU(IMAGES["float32"]))
    content = path.read_bytes()
    assert card.encode() in content
    path.write_bytes(content.replace(card.encode(), instead.encode()))
    with pytest.raises(PhotplugError, match=r"a\.fits: the file is truncated or damaged \(its header is not valid"):
        read_image(path)


def big(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Return a gzipped mosaic of 32 MB and its pixels."""
    image = np.arange(4000 * 2000, dtype=np.float32).reshape(4000, 2000)
    return write_image(tmp_path / "big.fits.gz", image, fits.Header()), image


def test_closing_early_ends_the_thread(tmp_path: Path) -> None:
    path, image = big(tmp_path)
    threads = threading.active_count()
    reader = ImageReader(path)
    assert threading.active_count() == threads + 1
    _, pixels = next(iter(reader.blocks()))
    np.testing.assert_array_equal(pixels, image[: len(pixels)])
    reader.close()
    assert threading.active_count() == threads
    reader.close()  # twice is fine
    with pytest.raises(ZeroDivisionError), ImageReader(path):
        raise ZeroDivisionError
    with ImageReader(path) as reader:  # not one pixel read
        pass
    read_image(path, (slice(0, 2), slice(0, 2)))
    assert threading.active_count() == threads


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_damage_far_in_is_told_and_ends_the_thread(tmp_path: Path, fraction: float) -> None:
    path, _ = big(tmp_path)
    cut(path, int(path.stat().st_size * fraction))
    with pytest.raises(PhotplugError, match=r"big\.fits\.gz: the file is truncated or damaged \(.+\); fetch it again"):
        read_image(path)
    read_image(path, (slice(0, 10), slice(0, 10)))  # far before the damage


def test_several_readers_go_in_step(tmp_path: Path) -> None:
    path, image = big(tmp_path)
    plain = write_image(tmp_path / "plain.fits", image, fits.Header())
    with ImageReader(path) as one, ImageReader(plain) as two:
        for (rows, first), (same, second) in zip(one.blocks(), two.blocks(), strict=True):
            assert rows == same
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_a_window_of_a_big_image_is_read_in_little_memory(tmp_path: Path, suffix: str) -> None:
    image = np.zeros((6000, 4000), np.float32)  # 96 MB
    image[5000, 2000] = 3
    path = write_image(tmp_path / f"big{suffix}", image, fits.Header())
    size, value = image.nbytes, image[5000, 2000]
    tracemalloc.start()
    try:
        pixels, _ = read_image(path, (slice(4990, 5010), slice(1990, 2010)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pixels[10, 10] == value
    # A raw block of 1 MB and its pixels, and isal's buffers: 8 MB of input and a few blocks of 1 MB of output.
    assert peak < 24e6 <= size / 4


@SUFFIXES
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int16", "int32", "uint32"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, kind: str) -> None:
    header = fits.Header({"BUNIT": "10 nJy", "CRVAL1": 34.5})
    header["HISTORY"] = "one"
    header["HISTORY"] = "two"
    path = write_image(tmp_path / f"a{suffix}", IMAGES[kind], header)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, IMAGES[kind])
        assert list(hdus[0].header["HISTORY"]) == ["one", "two"]
    image, cards = read_image(path)
    np.testing.assert_array_equal(image, IMAGES[kind].astype(np.float32))
    assert (cards["BUNIT"], cards["CRVAL1"]) == ("10 nJy", 34.5)
    assert "BITPIX" not in header  # the caller's header is untouched
    assert os.listdir(tmp_path) == [path.name]


def test_the_storage_cards_of_another_image_do_not_survive(tmp_path: Path) -> None:
    old = save(tmp_path / "old.fits", fits.PrimaryHDU(), fits.ImageHDU(IMAGES["uint32"], name="EXP"))
    header = fits.getheader(old, 1)
    header["BLANK"], header["NAXIS3"], header["CHECKSUM"] = 7, 5, "x"
    path = write_image(tmp_path / "new.fits", IMAGES["float32"], header)
    np.testing.assert_array_equal(fits.getdata(path), IMAGES["float32"])
    cards = fits.getheader(path)
    assert cards["SIMPLE"] is True
    assert not {"BZERO", "BSCALE", "BLANK", "XTENSION", "NAXIS3", "CHECKSUM"} & set(cards)


@SUFFIXES
def test_a_list_of_hdus_is_written(tmp_path: Path, suffix: str) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("n", "J", array=np.arange(10))])
    hdus = fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(IMAGES["float32"], name="SCI")])
    path = write_hdus(str(tmp_path / f"a{suffix}"), hdus)
    with fits.open(path) as back:
        assert [hdu.name for hdu in back] == ["PRIMARY", "", "SCI"]
        np.testing.assert_array_equal(back[1].data["n"], np.arange(10))
        np.testing.assert_array_equal(back["SCI"].data, IMAGES["float32"])


def test_the_same_pixels_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write_image(tmp_path / name, IMAGES["float32"], fits.Header()) for name in ("a.fits.gz", "b.fits.gz"))
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes()[3] == 0  # no name in the gzip header, so `gunzip -N` keeps the file's


@SUFFIXES
def test_an_existing_file_is_kept_unless_told(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"a{suffix}")
    path.write_text("old")
    with pytest.raises(PhotplugError, match="already exists"):
        write_image(path, IMAGES["float32"], fits.Header())
    assert path.read_text() == "old"
    write_image(path, IMAGES["float32"], fits.Header(), overwrite=True)
    np.testing.assert_array_equal(read_image(path)[0], IMAGES["float32"])
    assert os.listdir() == [path.name]


class Unreadable(fits.ImageHDU):
    """An HDU that fails after the ones before it are on disk."""

    def _writedata_internal(self, fileobj: Any) -> int:
        raise OSError(28, "No space left on device")


@SUFFIXES
def test_a_failed_write_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    hdus = fits.HDUList([fits.PrimaryHDU(IMAGES["float32"]), Unreadable(IMAGES["float32"])])
    with pytest.raises(PhotplugError, match=r"a\.fits.*: cannot be written \(.*No space left on device\)"):
        write_hdus(path, hdus)
    assert os.listdir(tmp_path) == []
    with pytest.raises((KeyError, TypeError)):
        write_image(path, np.array([["text"]]), fits.Header())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.png", "a.fit", "fits", "a.fits.bz2", "a.fits.fz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        PhotplugError, match=rf"{name}: the suffix must be one of \.fits, \.fits\.gz; (rename it|did you mean)"
    ):
        write_image(tmp_path / name, IMAGES["float32"], fits.Header())
    assert os.listdir(tmp_path) == []


def in_blocks(image: np.ndarray, height: int) -> Iterator[np.ndarray]:
    return (image[start : start + height] for start in range(0, len(image), height))


@SUFFIXES
@pytest.mark.parametrize("height", [1, 5, 36, 37, 1000])
def test_rows_make_the_file_that_the_whole_image_makes(tmp_path: Path, suffix: str, height: int) -> None:
    header = fits.Header({"BUNIT": "10 nJy", "BSCALE": 3.0, "NOTE": "caf", "CRVAL1": 34.5})
    header["HISTORY"] = "one"
    image = IMAGES["float32"]
    whole = write_image(tmp_path / "whole.fits", image, header).read_bytes()
    path = write_rows(tmp_path / f"rows{suffix}", in_blocks(image, height), SHAPE, lambda: header)
    content = path.read_bytes()
    assert (gzip.decompress(content) if suffix == ".fits.gz" else content) == whole
    np.testing.assert_array_equal(fits.getdata(path), image)
    read, cards = read_image(path)
    np.testing.assert_array_equal(read, image)
    assert (cards["BUNIT"], cards["CRVAL1"]) == ("10 nJy", 34.5)
    again = write_rows(tmp_path / f"again{suffix}", in_blocks(image, height), SHAPE, lambda: header)
    assert again.read_bytes() == content


@SUFFIXES
@pytest.mark.parametrize("n_cards", [(3, 3), (3, 90), (90, 3), (0, 600)])
def test_the_header_is_what_it_says_after_the_last_row(tmp_path: Path, suffix: str, n_cards: tuple[int, int]) -> None:
    """Also where it then needs more records than before, or fewer."""
    before, after = (
        fits.Header([(f"N{i}", i * factor) for i in range(n)]) for n, factor in zip(n_cards, (0, 1), strict=True)
    )
    headers = iter([before, after])
    image = IMAGES["float32"]
    path = write_rows(tmp_path / f"a{suffix}", in_blocks(image, 10), SHAPE, lambda: next(headers))
    whole = write_image(tmp_path / "whole.fits", image, after).read_bytes()
    assert (gzip.decompress(path.read_bytes()) if suffix == ".fits.gz" else path.read_bytes()) == whole
    np.testing.assert_array_equal(read_image(path)[0], image)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, "whole.fits"])


@SUFFIXES
def test_rows_that_end_in_an_error_leave_nothing(tmp_path: Path, suffix: str) -> None:
    def refused() -> Iterator[np.ndarray]:
        yield IMAGES["float32"]
        raise PhotplugError("all rows are wrong")

    old = write_image(tmp_path / f"a{suffix}", IMAGES["int16"], fits.Header()).read_bytes()
    with pytest.raises(PhotplugError, match="all rows are wrong"):
        write_rows(tmp_path / f"a{suffix}", refused(), SHAPE, fits.Header, overwrite=True)
    assert (tmp_path / f"a{suffix}").read_bytes() == old
    with pytest.raises(PhotplugError, match="already exists"):
        write_rows(tmp_path / f"a{suffix}", refused(), SHAPE, fits.Header)
    assert os.listdir(tmp_path) == [f"a{suffix}"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@SUFFIXES
def test_rows_on_a_full_disk_leave_nothing(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_file = written.whole_file

    @contextmanager
    def on_a_full_disk(*arguments: Any, **keywords: Any) -> Iterator[Path]:
        with whole_file(*arguments, **keywords) as temporary:
            temporary.symlink_to("/dev/full")
            yield temporary

    monkeypatch.setattr(written, "whole_file", on_a_full_disk)
    image = RNG.normal(size=(500, 4000)).astype(np.float32)
    with pytest.raises(PhotplugError, match=rf"a\{suffix}: cannot be written \(No space left on device\)"):
        write_rows(tmp_path / f"a{suffix}", in_blocks(image, 50), image.shape, fits.Header)
    assert os.listdir(tmp_path) == []


@SUFFIXES
def test_rows_are_written_in_little_memory(tmp_path: Path, suffix: str) -> None:
    block = RNG.normal(size=(60, 4000)).astype(np.float32)
    tracemalloc.start()
    try:
        write_rows(tmp_path / f"a{suffix}", (block for _ in range(100)), (6000, 4000), fits.Header)  # 96 MB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24e6
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}", np.s_[5940:6000, 0:4000])[0], block)


def test_scratch_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    scratch = Unnamed(tmp_path)
    array = scratch((300, 500), np.float32)
    assert os.listdir(tmp_path) == []
    assert array.shape == (300, 500)
    assert not array.any()
    array[:] = np.arange(500)
    scratch.release()
    np.testing.assert_array_equal(array[299], np.arange(500))
    path = write_image(tmp_path / "a.fits", IMAGES["uint32"], fits.Header())
    np.testing.assert_array_equal(read_image(path, allocate=scratch)[0], IMAGES["uint32"].astype(np.float32))


def test_scratch_without_space_is_told(tmp_path: Path) -> None:
    with pytest.raises(PhotplugError, match=r"missing: cannot reserve 1 MB of scratch space there \(No such file"):
        Unnamed(tmp_path / "missing")((500, 500), np.float32)
    with pytest.raises(PhotplugError, match=r"cannot reserve 4000000.0 GB of scratch space"):
        Unnamed(tmp_path)((10**6, 10**9), np.float32)
