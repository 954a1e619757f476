"""Mutations of files: of bytes, and of what their formats are made of."""

from __future__ import annotations

import gzip
import random
import re

from tests.fuzz.structures import spoil_hdf5, spoil_parquet

__all__ = ["mutate"]

NUMBERS = (
    *("-1", "0", "1", "2", "3", "7", "-32", "16", "1000", "100000", "999999999", "2147483648", "-2147483648"),
    *("9223372036854775807", "99999999999999999999", "1e308", "-1e308", "1e-308", "NaN", "inf", "-0.0", "0.04", "T"),
    *("'x'", "''", "F", "1.5", "(1, 2)", "", "--", "1D400", "-90.0", "91.0", "361.0", "1e400", "0x10"),
)
KEYS = (
    *("NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS", "BSCALE", "BZERO", "BLANK"),
    *("CRPIX1", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CDELT1", "PC1_1", "CTYPE1", "CTYPE2", "CUNIT1", "LONPOLE"),
    *("LATPOLE", "RADESYS", "EQUINOX", "WCSAXES", "PV2_1", "A_ORDER", "B_ORDER", "A_2_0", "D2IMDIS1", "CPDIS1"),
    *("TFORM1", "TTYPE1", "TDIM1", "TUNIT1", "TNULL1", "TSCAL1", "THEAP", "EXTEND", "XTENSION", "PHOTMJSR"),
    *("PHOTSCAL", "ZP", "NCOMBINE", "DATE-OBS", "MJD-OBS", "PIXAR_SR", "ORIENTAT", "EXTNAME", "ZIMAGE", "SIMPLE"),
)
TEXTS = (
    *("", "nan", "inf", "-1e300", "1e999", "0", "999999999999", "x", '"', ",", "\x00", "\u00fc\u2028", "9" * 5000),
    *(
        "2020-13-45T99:99:99",
        "=1+1",
        "a\nb",
        "91",
        "-0.5",
        "!!python/object/apply:os.system ['true']",
        "<",
        "&lol;",
        "[[[[",
    ),
)
_ENTITY = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


def _card(rng: random.Random, key: str) -> bytes:
    text = f"{key:<8}= {rng.choice(NUMBERS):>20}"
    return text.encode("ascii", "replace")[:80].ljust(80)


def _spoil_cards(content: bytes, rng: random.Random) -> bytes:
    """Change, take out, repeat or garble cards of a FITS file."""
    ends = [match.start() for match in re.finditer(rb"END {77}", content)]
    last = rng.choice(ends) if ends and rng.random() < 0.5 else (ends[0] if ends else len(content))
    count = max(1, min(last // 80, 200))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = 80 * rng.randrange(count)
        kind = rng.random()
        if kind < 0.45:  # another value of a card that is there
            key = content[at : at + 8].decode("latin-1").strip() or "NAXIS"
            content = content[:at] + _card(rng, key) + content[at + 80 :]
        elif kind < 0.75:  # a card that matters
            content = content[:at] + _card(rng, rng.choice(KEYS)) + content[at + 80 :]
        elif kind < 0.85:
            content = content[:at] + content[at + 80 :] + b" " * 80
        elif kind < 0.95:
            content = content[:at] + bytes(rng.randrange(256) for _ in range(80)) + content[at + 80 :]
        elif ends:
            content = content[: ends[0]] + b" " * 80 + content[ends[0] + 80 :]  # a header without END
    return content


def _spoil_text(content: bytes, rng: random.Random) -> bytes:
    """Change, take out or repeat cells and lines."""
    lines = content.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        row = rng.randrange(len(lines))
        cells = re.split(rb"([,\t>< \"])", lines[row])
        kind = rng.random()
        if kind < 0.6:
            text = rng.choice(TEXTS) if rng.random() < 0.6 else rng.choice(NUMBERS)
            cells[rng.randrange(len(cells))] = text.encode("utf-8", "surrogateescape")
            lines[row] = b"".join(cells)
        elif kind < 0.75:
            lines.insert(row, lines[rng.randrange(len(lines))])
        elif kind < 0.9 and len(lines) > 1:
            del lines[row]
        else:
            lines[row] = _ENTITY + lines[row] if rng.random() < 0.5 else lines[row][: len(lines[row]) // 2]
    return b"\n".join(lines)


def _spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat and join bytes of any file."""
    kind, size = rng.random(), max(1, len(content))
    if kind < 0.5:
        spoilt = bytearray(content)
        for _ in range(rng.choice((1, 4, 30))):
            spoilt[rng.randrange(size) % max(1, len(spoilt))] = rng.choice((0, 255, 128, rng.randrange(256)))
        return bytes(spoilt)
    if kind < 0.75:
        return content[: rng.randrange(size)]
    start, stop = sorted(rng.randrange(size) for _ in range(2))
    return content[:start] + content[stop:] if kind < 0.9 else content[:stop] + content[start:]


_FORMATS = {b"SIMPLE  =": _spoil_cards, b"\x89HDF": spoil_hdf5, b"PAR1": spoil_parquet}


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return a file with something wrong in it.

    Parameters
    ----------
    content : bytes
        Inflated.
    rng : random.Random

    Returns
    -------
    bytes
    """
    of_format = next((spoil for mark, spoil in _FORMATS.items() if content.startswith(mark)), _spoil_text)
    return (of_format if rng.random() < 0.8 else _spoil_bytes)(content, rng)


def pack(content: bytes, rng: random.Random) -> bytes:
    """Return a file in gzip, at times with a stream that is damaged or cut short."""
    packed = gzip.compress(content, 1)
    return _spoil_bytes(packed, rng) if rng.random() < 0.2 else packed
