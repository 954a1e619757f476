"""One target with inputs that atheris finds by what code they reach.

python -m tests.fuzz.guided NAME CORPUS -max_total_time=SECONDS

takes whatever else libFuzzer does, and needs the extra ``fuzz``.
"""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dja_photplug"]):
    from tests.fuzz.targets import call_target, sound_input

from tests.fuzz.mutate import mutate

__all__ = ["main"]


def _change(content: bytes, most: int, seed: int) -> bytes:
    """Return a mutation: of what the format is made of, or of bytes."""
    rng = random.Random(seed)
    return (mutate(content, rng) if content and rng.random() < 0.5 else atheris.Mutate(content, most))[:most]


def main() -> None:
    """Run until libFuzzer has had enough, or something is wrong."""
    name, corpus = sys.argv[1:3]
    Path(corpus).mkdir(parents=True, exist_ok=True)
    Path(corpus, "sound").write_bytes(sound_input(name))
    atheris.Setup([sys.argv[0], corpus, *sys.argv[3:]], partial(call_target, name), custom_mutator=_change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
