"""Rewrite docs/help.md: what `--help` of each command prints. Run it after changing flags or options.

python docs/scripts/help.py
"""

from __future__ import annotations

import os
from pathlib import Path

from tables import list_commands

PAGE = Path(__file__).resolve().parent.parent / "help.md"
WIDTH = 80
HEAD = """\
# Help

The output of `dja-photplug COMMAND --help`, in the order of `dja-photplug --help`, made by `docs/scripts/help.py`.
[Commands](cli.md) explains the commands, with examples.
"""


def make() -> str:
    """Return the page."""
    width, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), str(WIDTH + 2)  # argparse leaves two free
    try:
        parts = [f"## {name}\n\n```text\n{each.format_help()}```\n" for name, each in list_commands().items()]
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return "\n".join([HEAD, *parts])


if __name__ == "__main__":
    PAGE.write_text(make())
