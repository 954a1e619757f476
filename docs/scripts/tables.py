"""Rewrite the tables of columns, flags, options and commands in the documentation from the code, those of speed from
the file of a run of the benchmark.

Run it after changing one of them: python docs/scripts/tables.py. Where DJA_PHOTPLUG_DATA names the folder of the UDS
cut-outs, the outputs of the other scripts are made anew too.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from dja_photplug.catalog.flags import SourceFlag
from dja_photplug.catalog.schema import (
    APERTURE_COLUMNS,
    COLUMNS,
    CONTAMINATION_COLUMNS,
    DETAIL_COLUMNS,
    EPOCH_COLUMNS,
    EPOCH_DETAIL_COLUMNS,
    GROWTH_COLUMNS,
    KRON_DETAIL_COLUMNS,
    MASK_COLUMNS,
    MATCH_COLUMNS,
    MATCHED_TOTAL_COLUMNS,
    POSITION_COLUMNS,
    SKY_COLUMNS,
    TOTAL_COLUMNS,
    ColumnSpec,
)
from dja_photplug.cli.app import build_parser
from dja_photplug.completeness.bins import BIN_COLUMNS, SOURCE_COLUMNS, SPLIT_COLUMNS
from dja_photplug.completeness.limits import CURVE_COLUMNS, LIMIT_COLUMNS
from dja_photplug.foreign.known import PLAIN, SCHEMAS
from dja_photplug.options.commands import COMMAND_STAGES
from dja_photplug.options.run import STAGES, Options
from dja_photplug.plugins.manager import BUILTINS, get_plugin_manager

DOCS = Path(__file__).resolve().parent.parent
BENCHMARKS = DOCS.parent / "benchmarks"
SHARED = ("--help", "--quiet", "--overwrite", "--debug", "--config")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def columns(specs: tuple[ColumnSpec, ...]) -> str:
    """Return names, units, types and descriptions."""
    return table(
        ("column", "unit", "type", "what it is"),
        ((f"`{spec.name}`", spec.unit, spec.dtype, spec.description) for spec in specs),
    )


def details() -> str:
    """Return the columns of epochs on request, with the group that each belongs to."""
    rows = [(group, spec) for group, specs in EPOCH_DETAIL_COLUMNS.items() for spec in specs]
    return table(
        ("group", "column", "unit", "type", "what it is"),
        ((f"`{group}`", f"`{spec.name}`", spec.unit, spec.dtype, spec.description) for group, spec in rows),
    )


def flags() -> str:
    """Return the bits of the flags."""
    return table(
        ("bit", "name", "meaning"), ((str(flag.value), f"`{flag.name}`", flag.description) for flag in SourceFlag)
    )


def _describe_default(field: dataclasses.Field) -> str:
    """Return the default of an option as the command line takes it; nothing where there is none."""
    if field.default is dataclasses.MISSING or field.default is None or field.metadata["by_band"]:
        return ""
    if field.metadata["kind"] is bool:
        return "yes" if field.default else "no"
    return ", ".join(map(str, field.default)) if field.metadata["many"] else str(field.default)


def _describe_preset() -> str:
    """Return the noise preset that each command takes without one."""
    presets: dict[str, list[str]] = {}
    for name, command in list_commands().items():
        if any(action.dest == "variance.noise" for action in command._actions):
            defaults = command.get_default("defaults") or Options()
            presets.setdefault(defaults.variance.noise, []).append(f"`{name}`")
    return "; ".join(f"{preset} ({', '.join(commands)})" for preset, commands in presets.items())


def options() -> str:
    """Return each option: its place in Python and TOML, its flag, default and help."""
    own = [("", field) for field in dataclasses.fields(Options)]
    rows = []
    groups = STAGES | COMMAND_STAGES
    for stage, field in own + [(name, field) for name, kind in groups.items() for field in dataclasses.fields(kind)]:
        if meta := field.metadata:
            unit = f" [{meta['unit']}]" if meta["unit"] else ""
            flag = (meta["flag"] or "--" + field.name.replace("_", "-")) + (" FILTER=..." if meta["by_band"] else "")
            name = f"`{stage}.{field.name}`" if stage else f"`{field.name}`"
            default = _describe_preset() if name == "`variance.noise`" else _describe_default(field)
            rows.append((name, f"`{flag}`", default, meta["help"] + unit))
    return table(("option", "flag", "default", "what it does"), rows)


def _describe(action: argparse.Action) -> tuple[str, str]:
    value = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else action.dest.upper())
    value = " ".join(value) if isinstance(value, tuple) else value
    name = ", ".join(action.option_strings) or value
    takes = f" {value}" if action.option_strings and action.nargs != 0 else ""
    text = (action.help or "") % {"default": action.default}
    return f"`{name}{takes}`", text + (" (required)" if action.option_strings and action.required else "")


def list_commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each built-in command."""
    manager = get_plugin_manager()
    for name, _ in manager.list_name_plugin():
        if name not in BUILTINS:
            manager.unregister(name=name)
    parser = build_parser(manager)
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices


def commands() -> dict[str, str]:
    """Return the arguments of each built-in command; the flags that all have, and options, have tables of their own."""
    parsers, texts = list_commands(), {}
    for name, command in parsers.items():
        # Of the options of `extend` other commands have a few.
        some = "extend." if name != "extend" else " "
        own = [
            action
            for action in command._actions
            if ("." not in action.dest or action.dest.startswith(some)) and not set(action.option_strings) & set(SHARED)
        ]
        groups = dict.fromkeys(a.dest.split(".")[0] for a in command._actions if "." in a.dest and a not in own)
        lines = [table(("argument", "what it does"), map(_describe, own))] if own else []
        if groups:
            names = ["`engine`" if group == "options" else f"`{group}.*`" for group in groups]
            lines.append(f"And the flags of the options {', '.join(names)}.")
        texts[name] = "\n\n".join(lines) or "No arguments of its own."
    shared = [a for a in parsers["catalog"]._actions if set(a.option_strings) & set(SHARED)]
    texts["shared"] = table(("flag", "what it does"), map(_describe, shared))
    return texts


def benchmarks() -> dict[str, str]:
    """Return the tables of the benchmark that was run last, without running it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        report = importlib.import_module("report")
    finally:
        sys.path.remove(str(BENCHMARKS))
    runs = report.read_runs(BENCHMARKS / "results.json")
    return {name: show(runs) or "Not measured in this run." for name, show in report.TABLES.items()}


def schemas() -> dict[str, str]:
    """Return the kinds of catalogues: how each is recognised, where its sources are, and what is measured of them."""
    marks, places, light = [], [], []
    for schema in (*SCHEMAS, PLAIN):
        name = f"`{schema.name}`"
        found = " ".join(f"`{mark}`" for mark in schema.marks) + "".join(f", not `{mark}`" for mark in schema.lacks)
        marks.append((name, schema.title, found))
        positions = ", ".join(f"`{ra} {dec}`" for ra, dec in schema.position) or "the usual names"
        pixels = ", ".join(f"`{x} {y}`" for x, y in schema.places) + f" from {schema.origin}"
        places.append((name, " ".join(f"`{column}`" for column in schema.ids), positions, pixels))
        shapes = "; ".join(
            f"`{shape.a} {shape.b} {'/'.join(shape.theta)}` ({shape.unit}, {shape.angle} from {shape.zero})"
            for shape in schema.shapes
        )
        kron = f"`{schema.kron}` x {schema.kron_factor:g}" if schema.kron else ""
        fluxes = " ".join(f"`{column}`" for column in (schema.auto, schema.aperture) if column)
        unit = schema.flux_unit or (f"`{schema.zero_point}`" if schema.zero_point else "their own")
        missing = " ".join(f"{value:g}" for value in schema.missing)
        light.append((name, shapes, kron, fluxes, unit, missing))
    return {
        "schemas": table(("kind", "whose", "marks"), marks),
        "schema places": table(("kind", "ids", "positions", "pixels"), places),
        "schema light": table(("kind", "shapes", "kron", "fluxes", "unit, zero point", "missing"), light),
    }


def tables() -> dict[str, str]:
    """Return all tables by the name that marks their place."""
    return {
        "columns": columns(COLUMNS),
        "aperture columns": columns(APERTURE_COLUMNS),
        "position columns": columns(POSITION_COLUMNS),
        "sky columns": columns(SKY_COLUMNS),
        "detection details": columns(DETAIL_COLUMNS),
        "kron details": columns(KRON_DETAIL_COLUMNS + MASK_COLUMNS),
        "contamination columns": columns(CONTAMINATION_COLUMNS),
        "total columns": columns(TOTAL_COLUMNS),
        "matched columns": columns(MATCH_COLUMNS + MATCHED_TOTAL_COLUMNS),
        "growth columns": columns(GROWTH_COLUMNS),
        "epoch columns": columns(EPOCH_COLUMNS),
        "epoch details": details(),
        "injection bins": columns(BIN_COLUMNS),
        "injection splits": columns(SPLIT_COLUMNS),
        "injection limits": columns(LIMIT_COLUMNS),
        "injection curves": columns(CURVE_COLUMNS),
        "injected sources": columns(SOURCE_COLUMNS),
        "flags": flags(),
        **schemas(),
        "options": options(),
        **{f"command {name}": text for name, text in commands().items()},
        **{f"benchmark {name}": text for name, text in benchmarks().items()},
    }


def update(text: str) -> str:
    """Return a page with the content of ``<!-- table: NAME -->`` ... ``<!-- end -->`` made anew."""
    made = tables()
    return replace_marked(text, "table", lambda name: made[name])


def replace_marked(text: str, kind: str, make: Callable[[str], str]) -> str:
    """Return a page with ``make(NAME)`` between each ``<!-- kind: NAME -->`` and ``<!-- end -->``."""
    marked = re.compile(rf"(<!-- {kind}: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
    return marked.sub(lambda match: f"{match[1]}\n{make(match[2])}\n\n{match[3]}", text)


def run_script(name: str) -> str:
    """Return what a script of this folder prints."""
    script = [sys.executable, str(DOCS / "scripts" / f"{name}.py")]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    for page in sorted(DOCS.glob("*.md")):
        content = update(page.read_text())
        if "DJA_PHOTPLUG_DATA" in os.environ:
            content = replace_marked(content, "output", run_script)
        page.write_text(content)
