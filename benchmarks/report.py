"""Tables of what a benchmark measured, from its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from dja_photplug.errors import PhotplugError

__all__ = ["TABLES", "Record", "Run", "read_runs", "show", "write_runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One case, run once.

    Attributes
    ----------
    case, title : str
    round : int
    side : int
        Pixels along a side of the mosaic.
    density : float
        Sources above 20 nJy in a square arcmin.
    n : int
        Bands or positions; 1 where a case has neither.
    seconds, cpu : float
        Time of the process, and of all its processes on all cores.
    call : float or None
        Time of the call alone, without starting Python and importing.
    memory : dict of str to int
        Peaks in bytes: pss, anonymous, shared; empty where the system does not tell.
    rows : int or None
        Of the table that it made.
    """

    case: str
    title: str
    round: int
    side: int
    density: float
    n: int
    seconds: float
    cpu: float
    call: float | None
    memory: dict[str, int]
    rows: int | None

    @property
    def key(self) -> tuple[str, int, float, int]:
        """What repetitions have in common."""
        return self.case, self.side, self.density, self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: cases that took turns on one machine.

    Attributes
    ----------
    about : dict of str to str
        Machine, versions, and how it was called.
    left_out : dict of str to str
        Cases that were not run, and why.
    records : list of Record
    """

    about: dict[str, str]
    left_out: dict[str, str]
    records: list[Record]

    def groups(self) -> dict[tuple[str, int, float, int], list[Record]]:
        """Return the repetitions of each case, in the order of the run."""
        groups: dict[tuple[str, int, float, int], list[Record]] = {}
        for record in self.records:
            groups.setdefault(record.key, []).append(record)
        return groups


def write_runs(path: Path, runs: list[Run]) -> None:
    """Write the file of runs, whole or not at all.

    Parameters
    ----------
    path : Path
    runs : list of Run
    """
    temporary = path.with_name(f".{path.name}.part")
    # A line for each record: 10 runs read well, and changes show in a diff.
    lines = []
    for run in runs:
        head = json.dumps({"about": run.about, "left_out": run.left_out}, indent=1)[:-2]
        records = ",\n".join(f"  {json.dumps(asdict(record))}" for record in run.records)
        lines.append(f'{head},\n "records": [\n{records}\n ]\n}}')
    temporary.write_text("[" + ",\n".join(lines) + "]\n")
    temporary.replace(path)


def read_runs(path: Path) -> list[Run]:
    """Return the runs of a file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Run

    Raises
    ------
    PhotplugError
        Where it is not there, or not of `write_runs`.
    """
    try:
        runs = json.loads(path.read_text())
        return [Run(**{**run, "records": [Record(**record) for record in run["records"]]}) for run in runs]
    except OSError as error:
        raise PhotplugError(f"{path}: cannot be read ({error.strerror}); give the file of a run") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PhotplugError(f"{path}: not the file of a run ({error}); make it anew") from None


# What is divided by what, in words; `call` compares calls, without starting Python and importing.
RATIOS: tuple[tuple[str, str, str, str], ...] = (
    ("load", "decompress", "call", "`load_mosaic` / bare inflating of both files (calls)"),
    ("recipe", "weight", "seconds", "published recipe / `weight`"),
    ("weight-gz", "weight", "seconds", "`weight` to .fits.gz / to .fits"),
    ("catalog-dja", "se", "seconds", "`catalog --noise dja` / source-extractor"),
    ("catalog-mask", "se", "seconds", "`catalog --neighbours mask` / source-extractor"),
    ("catalog", "se", "seconds", "`catalog` / source-extractor"),
    ("catalog", "catalog-1", "seconds", "`catalog` / `catalog --workers 1`"),
    ("sep", "se", "seconds", "plain sep / source-extractor"),
    ("se-dual", "se", "seconds", "source-extractor, dual-image / single"),
    ("bands-1", "se-bands", "seconds", "{n} bands, one worker / {n} runs of source-extractor"),
    ("bands-2", "se-bands", "seconds", "{n} bands, two workers / {n} runs of source-extractor"),
    ("bands-2", "se-bands-2", "seconds", "{n} bands, two workers / {n} runs of source-extractor, two at a time"),
    ("bands-2", "bands-1", "seconds", "{n} bands, two workers / one"),
    ("extend-dja", "sep-positions", "seconds", "`extend --noise dja` / plain sep, {n} positions"),
    ("extend", "sep-positions", "seconds", "`extend` / plain sep, {n} positions"),
)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table with words to the left and numbers to the right."""
    lines = [head, ("---", *("---:",) * (len(head) - 1)), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _name(record: Record) -> str:
    return record.title.format(n=f"{record.n:,}")


def _middle(records: list[Record], value: Callable[[Record], float | None], unit: str, digits: int = 1) -> str:
    """Return the median of what the records say; nothing where they do not."""
    values = [number for record in records if (number := value(record)) is not None]
    return f"{median(values):.{digits}f}{unit}" if values else ""


def _memory(kind: str) -> Callable[[Record], float | None]:
    return lambda record: record.memory[kind] / 1e9 if kind in record.memory else None


def _costs(records: list[Record]) -> tuple[str, ...]:
    """Return time, call, CPU and memory; of memory the largest peak, which sampling may have missed in others."""
    peaks = []
    for kind in ("pss", "anonymous"):
        sizes = [size for record in records if (size := _memory(kind)(record)) is not None]
        peaks.append(f"{max(sizes):.2f} GB" if sizes else "")
    return (
        _middle(records, lambda record: record.seconds, " s"),
        _middle(records, lambda record: record.call, " s"),
        _middle(records, lambda record: record.cpu, " s"),
        *peaks,
    )


def _describe(run: Run, side: int, density: float) -> str:
    about = run.about
    return (
        f"{side} x {side} pixels, {density:g} sources above 20 nJy in a square arcmin; {about.get('cores', '?')} cores "
        f"({about.get('processor', 'unknown')}), {about.get('memory', '?')}; {about.get('versions', '')}; "
        f"median of {max(record.round for record in run.records) + 1} rounds, {about.get('date', '')}."
    )


def _places(run: Run) -> list[tuple[int, float]]:
    return list(dict.fromkeys((record.side, record.density) for record in run.records))


def show_cases(runs: list[Run]) -> str:
    """Return what each case took.

    Parameters
    ----------
    runs : list of Run

    Returns
    -------
    str
        A Markdown table for each mosaic of each run.
    """
    parts = []
    head = ("what", "rows", "time", "call", "CPU", "peak PSS", "anonymous")
    for run in runs:
        for side, density in _places(run):
            rows = [
                (_name(records[0]), _rows(records[0]), *_costs(records))
                for (_, *place, _), records in run.groups().items()
                if place == [side, density]
            ]
            parts.append(f"{_describe(run, side, density)}\n\n{_table(head, rows)}")
        parts += [f"Left out: {reason}: {', '.join(_with(run, reason))}." for reason in _reasons(run)]
    return "\n\n".join(parts)


def _reasons(run: Run) -> list[str]:
    return list(dict.fromkeys(run.left_out.values()))


def _with(run: Run, reason: str) -> list[str]:
    return [f"`{case}`" for case, given in run.left_out.items() if given == reason]


def _divide(above: list[Record], below: list[Record], kind: str) -> list[float]:
    """Return the ratio in each round that has both."""
    rounds = {record.round: record for record in below}
    ratios = []
    for record in above:
        if record.round in rounds:
            first, second = (_kinds(each)[kind] for each in (record, rounds[record.round]))
            if first and second:
                ratios.append(first / second)
    return ratios


def _kinds(record: Record) -> dict[str, float | None]:
    return {"seconds": record.seconds, "call": record.call, "cpu": record.cpu}


def _ratio_row(name: str, ratios: list[float], cpu: list[float], digits: int = 2) -> tuple[str, ...]:
    spread = f"{min(ratios):.{digits}f} to {max(ratios):.{digits}f}" if len(ratios) > 1 else ""
    return name, f"{median(ratios):.{digits}f}", spread, f"{median(cpu):.{digits}f}" if cpu else ""


def show_ratios(runs: list[Run]) -> str:
    """Return ratios within each round.

    Parameters
    ----------
    runs : list of Run

    Returns
    -------
    str
        A Markdown table for each mosaic of each run: median, least and most over the rounds, and the same of CPU time,
        which other work on the machine changes less.
    """
    parts = []
    for run in runs:
        groups, places = run.groups(), _places(run)
        for side, density in places:
            rows: list[tuple[str, ...]] = []
            for above, below, kind, words in RATIOS:
                for n in dict.fromkeys(record.n for record in run.records):
                    first, second = (groups.get((case, side, density, n), []) for case in (above, below))
                    if ratios := _divide(first, second, kind):
                        # The CPU of a process with its imports says nothing of a call.
                        cpu = [] if kind == "call" else _divide(first, second, "cpu")
                        rows.append(_ratio_row(words.format(n=f"{n:,}"), ratios, cpu))
            rows += _per_row(groups, side, density)
            if rows:
                title = f"{side} x {side} pixels, density {density:g}:\n\n" if len(runs) + len(places) > 2 else ""
                parts.append(title + _table(("what / what", "ratio", "least to most", "of CPU"), rows))
    return "\n\n".join(parts)


def _per_row(
    groups: dict[tuple[str, int, float, int], list[Record]], side: int, density: float
) -> list[tuple[str, ...]]:
    """Return the time per row of `extend` with most rows to that with least."""
    rows: list[tuple[str, ...]] = []
    for case in ("extend-dja", "extend"):
        counts = sorted(n for name, *place, n in groups if name == case and place == [side, density])
        if len(counts) > 1:
            few, many = (groups[case, side, density, n] for n in (counts[0], counts[-1]))
            ratios, cpu = (
                [ratio * counts[0] / counts[-1] for ratio in _divide(many, few, kind)] for kind in ("seconds", "cpu")
            )
            name = few[0].title.partition(",")[0]
            rows.append(_ratio_row(f"{name}, time per row: {counts[-1]:,} / {counts[0]:,} rows", ratios, cpu, 3))
    return rows


def show_growth(runs: list[Run]) -> str:
    """Return how cost grows with pixels, sources, and bands or positions.

    Parameters
    ----------
    runs : list of Run

    Returns
    -------
    str
        A Markdown table for each of them that a run has in several sizes.
    """
    parts = []
    for run in runs:
        for name, index in (("side", 1), ("density", 2), ("bands or positions", 3)):
            if rows := [row for members in _series(run, index) for row in _grow(run, members, index)]:
                head = (
                    "what",
                    name,
                    "rows",
                    "time",
                    "call",
                    "CPU",
                    "peak PSS",
                    "anonymous",
                    "time for each, to the first",
                )
                parts.append(_table(head, rows))
    return "\n\n".join(parts)


def _series(run: Run, index: int) -> list[list[list[Record]]]:
    """Return the cases that differ in one thing alone, by its size; those of one size are left out."""
    series: dict[tuple[str | int | float, ...], list[list[Record]]] = {}
    for key, records in run.groups().items():
        series.setdefault(key[:index] + key[index + 1 :], []).append(records)
    several = [members for members in series.values() if len(members) > 1]
    return [sorted(members, key=lambda records: records[0].key[index]) for members in several]


def _grow(run: Run, members: list[list[Record]], index: int) -> list[tuple[str, ...]]:
    """Return a row for each size, with its time per pixel, detection, band or position relative to the first."""
    sides, densities = (set(values) for values in zip(*_places(run), strict=True))
    rows = []
    for records in members:
        first, record = members[0][0], records[0]
        size = (record.side / first.side) ** 2 if index == 1 else record.n / first.n
        if index == 2:
            size = (record.rows or 0) / first.rows if first.rows else 0
        ratios = _divide(records, members[0], "seconds")
        each = f"{median(ratios) / size:.2f}" if ratios and size else ""
        value = (record.side, record.density, record.n)[index - 1]
        # What is the same in this series, where the run has others.
        name = record.title.split(", {n}")[0] if index == 3 else _name(record)
        name += f", {record.side} x {record.side}" if index != 1 and len(sides) > 1 else ""
        name += f", density {record.density:g}" if index != 2 and len(densities) > 1 else ""
        rows.append((name, f"{value:,g}" if index == 2 else f"{value:,}", _rows(record), *_costs(records), each))
    return rows


def _rows(record: Record) -> str:
    return f"{record.rows:,}" if record.rows is not None else ""


TABLES: dict[str, Callable[[list[Run]], str]] = {"cases": show_cases, "ratios": show_ratios, "growth": show_growth}


def show(runs: list[Run], tables: Iterable[str] = TABLES) -> str:
    """Return tables as text.

    Parameters
    ----------
    runs : list of Run
    tables : iterable of str, optional
        Names in `TABLES`; all by default.

    Returns
    -------
    str
    """
    return "\n\n".join(text for name in tables if (text := TABLES[name](runs)))
