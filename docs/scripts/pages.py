"""Fenced blocks of the documentation, and its tutorial: run, compared with what it shows, or written anew.

python docs/scripts/pages.py --check    what the build of the documentation does
python docs/scripts/pages.py            outputs and figure of docs/tutorial.md are made anew
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from types import ModuleType

from PIL import Image

DOCS = Path(__file__).resolve().parent.parent
TUTORIAL = DOCS / "tutorial.md"
FIGURE = ("one.png", "tutorial.jpg")
NUMBER = re.compile(r"[-+]?\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and the program beside this package that it needs, or none."""

    language: str
    text: str
    needs: str


def read_blocks(page: Path) -> list[Block]:
    """Return all blocks of a page; ``<!-- needs: NAME -->`` before one names its program."""
    pattern = r"^(?:<!-- needs: (\w+) -->\n\n)?```([\w{}-]*)\n(.*?)^```$"
    found = re.findall(pattern, page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [Block(language, text, needs) for needs, language, text in found]


def read_commands(block: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Yield environment and arguments of each dja-photplug command of a shell block, as they are written."""
    for piece in re.split(r"\n|&&", block.replace("\\\n", " ")):
        words = shlex.split(piece)
        setting = {}
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, setting[name] = words.pop(0).partition("=")
        if words and words[0].removeprefix(".venv/bin/") == "dja-photplug":
            yield setting, words[1:]


def expand(words: list[str]) -> Iterator[str]:
    """Yield words as a shell does: variables by their values, patterns by the names of files."""
    for word in map(os.path.expandvars, words):
        yield from sorted(glob(word)) if "*" in word and glob(word) else [word]


def run_block(block: Block, page: Path, namespace: ModuleType) -> str:
    """Run a block in the working directory; return what it prints. One that needs a program is the shell's."""
    from dja_photplug.cli.app import main

    if block.needs and block.language == "bash":
        subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], check=True)
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        if block.language == "python":
            # Where processes are started from it, they look for the module of what they are given.
            sys.modules[namespace.__name__] = namespace
            exec(compile(block.text, str(page), "exec"), namespace.__dict__)
        for setting, words in read_commands(block.text) if block.language == "bash" else ():
            kept = dict(os.environ)
            os.environ.update(setting)
            try:
                status = main(list(expand(words)))
            finally:
                os.environ.clear()
                os.environ.update(kept)
            assert status == 0, f"{shlex.join(words)}: {stderr.getvalue()}"
    return stdout.getvalue()


def run_tutorial() -> Iterator[tuple[str, str]]:
    """Run the tutorial in the working directory; yield what each of its blocks of text shows, and what was printed."""
    namespace, printed = ModuleType("tutorial"), ""
    for block in read_blocks(TUTORIAL):
        if block.language == "text":
            yield block.text, printed
        else:
            printed = run_block(block, TUTORIAL, namespace)


def same(shown: str, printed: str) -> bool:
    """Return whether words and whole numbers are equal, and other numbers to 5 % or 2 of the last digit of two."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return False
    pairs = zip(map(float, NUMBER.findall(shown)), map(float, NUMBER.findall(printed)), strict=True)
    return all(abs(one - two) <= 0.02 + 0.05 * min(abs(one), 1) for one, two in pairs)


def write_outputs(outputs: list[str]) -> None:
    """Put what was printed into the blocks of the tutorial, broken into lines that fit the column."""
    new = iter(outputs)

    def fill(block: re.Match[str]) -> str:
        return f"```text\n{''.join(break_line(line) for line in next(new).splitlines())}```"

    TUTORIAL.write_text(re.sub(r"^```text\n.*?^```$", fill, TUTORIAL.read_text(), flags=re.MULTILINE | re.DOTALL))


def break_line(line: str, width: int = 88) -> str:
    """Return a line, or several where it is longer than the column."""
    if len(line) <= width:
        return f"{line}\n"
    end = line.rfind(" ", 0, width)
    return f"{line[:end]}\n{break_line(line[end + 1 :], width)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where it shows something else")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        outputs = list(run_tutorial())
        if not check:
            write_outputs([printed for _, printed in outputs])
            made, name = FIGURE
            Image.open(made).convert("RGB").resize((1200, 902)).save(DOCS / "images" / name, quality=85)
            return 0
    wrong = [(shown, printed) for shown, printed in outputs if not same(shown, printed)]
    for shown, printed in wrong:
        print(f"docs/tutorial.md shows\n{shown}and printed is\n{printed}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
