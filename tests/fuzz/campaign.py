"""Mutated inputs of every reader and every command: what comes out, how long it takes and how much memory.

python -m tests.fuzz.campaign [-n COUNT] [--seed SEED] [-o RESULTS.json] [--commands] [NAME ...]
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from functools import partial
from pathlib import Path

from dja_photplug.errors import PhotplugError
from tests.fuzz.apart import Findings, as_json, call_apart
from tests.fuzz.commands import COMMANDS, Command, check_sound, make_folder, quote, run_command, spoil_file, spoil_words
from tests.fuzz.mutate import mutate, pack
from tests.fuzz.readers import READERS, Reader, make_seeds
from tests.helpers import simulate_isolated

__all__ = ["attack_command", "attack_reader", "run_campaign"]


def _read(reader: Reader, path: Path) -> str:
    """Read a file, and say what is wrong with what happens."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.call(path)
    except PhotplugError as error:
        return "refused" if "\n" not in str(error) else f"several lines: {error!r}"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "dja_photplug" in frame.filename]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        what = f"{type(error).__name__}: {str(error)[:120]}"
        return f"{what} in {Path(frames[-1].filename).name} by {at}"
    return "obeyed"


def attack_reader(reader: Reader, content: bytes, folder: Path, count: int, seed: int) -> Findings:
    """Read mutations of a file.

    Parameters
    ----------
    reader : Reader
    content : bytes
        Of the sound file, inflated.
    folder : Path
        Where the file is written.
    count : int
    seed : int

    Returns
    -------
    Findings
    """
    findings, path = Findings(), folder / reader.file
    sound = path.read_bytes() if path.exists() else None
    for number in range(count):
        rng = random.Random(f"{seed}-{number}-{reader.file}")
        spoilt = mutate(content, rng)
        path.write_bytes(pack(spoilt, rng) if path.suffix == ".gz" else spoilt)
        findings.add(f"{seed}-{number}", call_apart(partial(_read, reader, path)))
    if sound is None:
        path.unlink()
    else:
        path.write_bytes(sound)
    return findings


def attack_command(
    name: str, command: Command, sound: Path, count: int, seed: int, spare: Path | None = None
) -> Findings:
    """Run a command on mutations of its files, or with a mutated command line.

    Parameters
    ----------
    name : str
    command : Command
    sound : Path
        Folder of :func:`~tests.fuzz.commands.make_folder`.
    count : int
    seed : int
    spare : Path, optional
        Where the folders of faults are kept.

    Returns
    -------
    Findings
    """
    findings = Findings()
    check_sound(command, sound)
    for number in range(count):
        rng = random.Random(f"{seed}-{number}-{name}")
        words, spoilt = command.words.split(), None
        if rng.random() < 0.4 or not command.files:
            words = spoil_words(words, rng)
        else:
            spoilt = rng.choice(command.files)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "run")
            shutil.copytree(sound, folder)
            if spoilt is not None:
                spoil_file(folder / spoilt, rng)
            faults = len(findings.faults)
            ended = call_apart(partial(run_command, words, folder))
            findings.add(f"{seed}-{number} {spoilt or ''} {quote(words)}", ended)
            if spare is not None and len(findings.faults) > faults:
                shutil.copytree(folder, spare / f"{name.replace(' ', '_')}-{seed}-{number}", dirs_exist_ok=True)
    return findings


def run_campaign(
    names: list[str], count: int, seed: int, *, commands: bool, spare: Path | None = None
) -> dict[str, Findings]:
    """Attack all readers, or all commands, and print what becomes of it.

    Parameters
    ----------
    names : list of str
        Only these, where there are any.
    count : int
        Inputs of each.
    seed : int
    commands : bool
        Commands instead of readers.
    spare : Path, optional
        Where the folders of faults of commands are kept.

    Returns
    -------
    dict of str to Findings
    """
    results: dict[str, Findings] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        seeds: dict[str, bytes] = {}
        if commands:
            make_folder(folder)
        else:
            seeds = make_seeds(simulate_isolated(folder).prefix, folder)
        for name in COMMANDS if commands else READERS:
            if names and name not in names:
                continue
            if commands:
                found = attack_command(name, COMMANDS[name], folder, count, seed, spare)
            else:
                found = attack_reader(READERS[name], seeds[READERS[name].file], folder, count, seed)
            results[name] = found
            said = f"{found.refused} refused, {found.seconds:.1f} s, {found.memory / 1e6:.0f} MB"
            print(f"{name}: {found.inputs} inputs, {said}, {len(found.faults)} faults", flush=True)
            for fault in found.faults[:400]:
                print(f"    {fault}", flush=True)
    return results


def main() -> int:
    """Run the campaign of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", action="store_true", help="of the command line, not of library functions")
    parser.add_argument("--keep", type=Path, help="a folder for the files of commands that failed")
    parser.add_argument("-o", type=Path)
    arguments = parser.parse_args()
    results = run_campaign(
        arguments.names, arguments.n, arguments.seed, commands=arguments.commands, spare=arguments.keep
    )
    if arguments.o:
        arguments.o.write_text(as_json(results))
    return min(sum(len(found.faults) for found in results.values()), 1)


if __name__ == "__main__":
    sys.exit(main())
