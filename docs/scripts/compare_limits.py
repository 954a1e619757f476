"""Compare limits of completeness from few realisations with those from many, as `inject --limits` writes them.

    python docs/scripts/compare_limits.py MANY.ecsv FEW.ecsv [FEW.ecsv ...]

prints, for each limit, that of many and, of the few, how often it is known, its median error, scatter and median of
(few - many) / error, and how often it is within 1.5 errors.
"""

from __future__ import annotations

import sys

import numpy as np
from astropy.table import QTable

HEAD = ("sources", "zone", "level", "many", "known", "error", "scatter", "median", "within 1.5")


def compare(many: QTable, few: list[QTable]) -> list[tuple[str, ...]]:
    """Return a row of text for each limit of all sources, and of the clear ones of the mosaic."""
    rows: list[tuple[str, ...]] = []
    for i, limit in enumerate(many):
        if limit["zone"] and limit["sources"] == "clear":
            continue
        mag = np.array([table["mag"][i].value for table in few])
        error = np.array([table["mag_err"][i].value for table in few])
        known = np.isfinite(mag)
        pull = ((mag - limit["mag"].value) / error)[known]
        rows.append(
            (
                str(limit["sources"]),
                str(limit["zone"]) if limit["zone"] else "all",
                f"{100 * limit['level']:.0f} %",
                f"{limit['mag'].value:.3f} ± {limit['mag_err'].value:.3f}",
                f"{known.sum()} of {len(few)}",
                f"{np.median(error[known]):.3f}",
                f"{np.std(pull):.2f}",
                f"{np.median(pull):+.2f}",
                f"{np.sum(np.abs(pull) < 1.5)} of {known.sum()}",
            )
        )
    return rows


def main() -> None:
    many, *few = (QTable.read(path) for path in sys.argv[1:])
    for cells in (HEAD, ["---"] * 3 + ["---:"] * 6, *compare(many, few)):
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
