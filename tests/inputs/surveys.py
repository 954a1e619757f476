"""Lists of surveys that are wrong, and folders that hold something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from astropy.table import Table

from tests.inputs.cases import Case

PREFIX = "sim-test-v7.4-f444w-clear"
BANDS = f'bands = ["{PREFIX}"]\n'
FIELD = f"[fields.sim]\n{BANDS}"
FAST = "--noise background"


def write_list(text: str) -> Callable[[Path], object]:
    """Return what writes the list."""
    return lambda folder: (folder / "fields.toml").write_text(text)


def put(text: str, name: str, content: str = "mine") -> Callable[[Path], object]:
    """Return what writes the list, and a file of somebody else."""

    def prepare(folder: Path) -> None:
        write_list(text)(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)

    return prepare


def make(given: str, text: str, *says: str, flags: str = FAST, **more: object) -> Case:
    """Return a case of a list, which is refused unless told otherwise."""
    more = {"outcome": "refused", "prepare": write_list(text), **more}
    return Case(kind="Surveys", given=given, command=f"survey fields.toml -o out {flags}", says=says, **more)


def check_made(folder: Path) -> None:
    """The field is there, and in the summary."""
    assert len(Table.read(folder / "out" / "sim.fits")) > 10
    assert list(Table.read(folder / "out" / "summary.ecsv")["status"]) == ["made"]


CASES = (
    make("one field", FIELD, outcome="obeyed", check=check_made),
    make("a pattern", f'[fields.sim]\npattern = "{PREFIX}*_drc_*"\n', outcome="obeyed", check=check_made),
    make("no list", FIELD, "fields.toml: cannot read the list", prepare=lambda folder: None),
    make("a list that is no TOML", FIELD.replace("]", "", 1), "not valid TOML", "at line 1"),
    make("an empty list", "", "lists no fields; add a table [fields.NAME]"),
    make("a table with a typo", FIELD.replace("fields", "feilds"), "did you mean [fields.NAME]?"),
    make("a key with a typo", FIELD.replace("bands", "band"), "[fields.sim] band", "did you mean bands?"),
    make("an option of no group", f"{FIELD}n_sigma = 3\n", "did you mean [fields.sim.options.detect] n_sigma?"),
    make("options of all at the top", f"[detect]\nn_sigma = 3\n{FIELD}", "did you mean [options.detect]?"),
    make(
        "an option with a typo",
        f"{FIELD}[fields.sim.options.detect]\nn_sgima = 3\n",
        "[fields.sim.options.detect] n_sgima is not an option",
        "did you mean [fields.sim.options.detect] n_sigma?",
    ),
    make(
        "an option beyond its bound",
        f"[options.detect]\nn_sigma = -1\n{FIELD}",
        "option n_sigma: -1.0 is below its minimum 0.01; change [options.detect] n_sigma in fields.toml",
    ),
    make("workers of one field", f"{FIELD}[fields.sim.options.bands]\nworkers = 2\n", "applies to the whole survey"),
    make("a field without bands", "[fields.sim]\n", "[fields.sim]: the field has no bands; give bands"),
    make("bands that are no list", f'[fields.sim]\nbands = "{PREFIX}"\n', "is not a list of strings"),
    make("a pattern that matches nothing", '[fields.sim]\npattern = "sim-tset-*"\n', "matches no file", PREFIX),
    make(
        "a band twice",
        f'[fields.sim]\nbands = ["{PREFIX}", "{PREFIX}_drc_sci.fits.gz"]\n',
        "[fields.sim]:",
        "are both in the band f444w",
    ),
    make(
        "a mosaic that is not there",
        FIELD.replace("f444w", "f440w"),
        f"[fields.sim]: sim-test-v7.4-f440w-clear: no such mosaic; did you mean {PREFIX}?",
    ),
    make("a PSF of a band of no field", FIELD, "no field has the band f335m", flags=f"{FAST} --psf f335m=psf.fits"),
    make(
        "a name that is none of a file", f'[fields."a/b"]\n{BANDS}', "field 'a/b': its catalogue cannot have this name"
    ),
    make("a name with a dot", f"[fields.sim.v7]\n{BANDS}", "[fields.'sim.v7']"),
    make(
        "names that differ in case",
        f"{FIELD}[fields.SIM]\n{BANDS}",
        "field sim and field SIM would write the same file",
    ),
    make(
        "two fields with one stack",
        f'[options.bands]\nstack = "."\n{FIELD}[fields.other]\n{BANDS}',
        "sim-test-v7.4-ir_drc_sci.fits.gz: field sim and field other would write the same file",
        "name another folder for the stack (stack) of one",
        flags=f"{FAST} --detect stack",
    ),
    make(
        "a field that reads what another writes",
        f'{FIELD}[fields.other]\n{BANDS}options.detect.use_segmentation = "out/sim_seg.fits.gz"\n',
        "out/sim_seg.fits.gz: field sim would write this file, field other would read it",
        "put them in two lists",
        flags=f"{FAST} --segmentations",
        prepare=put(
            f'{FIELD}[fields.other]\n{BANDS}options.detect.use_segmentation = "out/sim_seg.fits.gz"\n',
            "out/sim_seg.fits.gz",
        ),
    ),
    make(
        "a flag without effect",
        FIELD,
        "--annulus has no effect: the sky is 'none'; give --sky annulus",
        flags=f"{FAST} --annulus 1,2",
        outcome="warned",
        check=check_made,
    ),
    make(
        "an option of a field without effect",
        f"{FIELD}[fields.sim.options.measure]\nannulus = [1, 2]\n",
        "fields.toml: [fields.sim.options.measure] annulus has no effect: the sky is 'none'; give measure.background =",
        outcome="warned",
        check=check_made,
    ),
    make("a suffix that no format has", FIELD, "did you mean .fits?", flags=f"{FAST} --suffix .fit"),
    make("catalogues for eazy", FIELD, "option format: eazy needs a zphot.translate", flags=f"{FAST} --format eazy"),
    make("a folder that is a file", FIELD, "out: is a file, not a folder; name a folder", prepare=put(FIELD, "out")),
    make(
        "a catalogue of somebody else",
        FIELD,
        "out/sim.fits: already exists and is not of this survey; name another folder or add --overwrite",
        prepare=put(FIELD, "out/sim.fits"),
    ),
    make(
        "the same, to be replaced",
        FIELD,
        flags=f"{FAST} --overwrite",
        outcome="obeyed",
        prepare=put(FIELD, "out/sim.fits"),
        check=check_made,
    ),
    make(
        "a summary of somebody else",
        FIELD,
        "summary.ecsv: is not from a survey",
        prepare=put(FIELD, "out/summary.ecsv"),
    ),
    make(
        "a state of somebody else",
        FIELD,
        "sim.fits.json: is not the state file of a survey",
        prepare=put(FIELD, "out/sim.fits.json"),
    ),
)
