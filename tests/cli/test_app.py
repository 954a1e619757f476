"""The command line: outputs, messages on one line, exit status, nothing lost and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from regions import Regions

from dja_photplug import load_mosaic
from dja_photplug.cli.app import build_parser, main
from dja_photplug.files.written import write_image
from dja_photplug.plugins.manager import BUILTINS, get_plugin_manager


@pytest.fixture
def folder(simulated, tmp_path, monkeypatch) -> Path:
    """A folder that holds a copy of the simulated products as ``sim``, and is the working directory."""
    for path in simulated.prefix.parent.glob(f"{simulated.prefix.name}_*"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


PREFIX = "sim-test-v7.4-f444w-clear"


def expect_error(capsys, arguments: str, *parts: str) -> None:
    """The command ends with status 1 and one line on stderr that holds all `parts`, and leaves no new file."""
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    assert main(arguments.split()) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("dja-photplug: ")
    assert captured.err.count("\n") == 1, captured.err
    for part in parts:
        assert part in captured.err
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before


def test_catalog_with_all_its_outputs(folder, capsys):
    status = main(f"catalog {PREFIX} -o cat.fits --segmentation seg.fits.gz --regions cat.reg --plot cat.png".split())
    captured = capsys.readouterr()
    assert status == 0
    # The choice is printed: calibrated by default.
    assert "noise preset calibrated: detector gain 1.88 e-/DN (table, by the WCS log)" in captured.out
    catalog = QTable.read("cat.fits")
    assert f"{len(catalog)} sources" in captured.out
    segmentation, header = fits.getdata("seg.fits.gz", header=True)
    assert set(np.unique(segmentation)) == {0, *catalog["id"]}
    assert header["CRPIX1"] == fits.getheader(f"{PREFIX}_drc_sci.fits.gz")["CRPIX1"]
    assert len(Regions.read("cat.reg")) == len(catalog)
    assert Path("cat.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob(".*"))  # no temporary file


def test_options_from_flags_and_configuration(folder, capsys):
    Path("mine.toml").write_text("[measure]\napertures = [0.5, 1.5]\n[detect]\nn_sigma = 5\n")
    main(f"catalog {PREFIX} -o a.ecsv --config mine.toml --n-sigma 20 --noise background --quiet".split())
    assert capsys.readouterr().out == ""
    catalog = QTable.read("a.ecsv")
    assert [catalog.meta[f"ASEC_{i}"] for i in range(2)] == [0.5, 1.5]
    assert "flux_aper_2" not in catalog.colnames
    assert '"n_sigma": 20.0' in catalog.meta["OPTIONS"]
    assert catalog.meta["NOISE"] == "background"
    expect_error(capsys, f"catalog {PREFIX} -o b.fits --config no.toml", "no.toml", "cannot read")


def test_cutout(folder):
    centre = load_mosaic(PREFIX, "background").wcs.pixel_to_world(260, 200)
    main(f"weight {PREFIX} -o w.fits --cutout {centre.ra.deg} {centre.dec.deg} 4 --quiet".split())
    assert fits.getheader("w.fits")["NAXIS1"] == 100


@pytest.mark.parametrize("kind", ["weight", "sigma", "variance"])
def test_weight(folder, capsys, kind):
    assert main(f"weight {PREFIX}_drc_sci.fits.gz -o w.fits --kind {kind} --noise calibrated".split()) == 0
    assert "noise preset calibrated: detector gain 1.88 e-/DN (table, by the WCS log)" in capsys.readouterr().out
    expected = load_mosaic(PREFIX, "calibrated").uncertainty.array
    power = {"weight": 1, "sigma": -0.5, "variance": -1}[kind]
    usable = expected > 0
    np.testing.assert_allclose(fits.getdata("w.fits")[usable], expected[usable] ** power, rtol=1e-6)


def test_info(folder, capsys):
    assert main(["info", PREFIX]) == 0
    out = capsys.readouterr().out
    for text in ("530 x 401 pixels of 40.0 mas", "band f444w", "6 exposures in 2 visits", "NRCALONG", "1.880 e-/DN"):
        assert text in out
    assert f"{PREFIX}_wcs.csv" in out


def test_info_says_what_cannot_be_known(folder, capsys):
    path = f"{PREFIX}_drc_sci.fits.gz"
    data, header = fits.getdata(path, header=True)
    del header["PHOTMJSR"]
    write_image(path, data, header, overwrite=True)
    assert main(["info", PREFIX]) == 0
    assert "keyword PHOTMJSR is missing" in capsys.readouterr().out


def test_epochs(folder, capsys):
    assert main(["epochs", PREFIX]) == 0
    whole = capsys.readouterr().out
    assert "6 exposures in 2 visits" in whole
    assert main(["epochs", f"{PREFIX}_wcs.csv"]) == 0
    assert capsys.readouterr().out == whole
    centre = load_mosaic(PREFIX).wcs.pixel_to_world(260, 200)
    assert main(f"epochs {PREFIX} --position {centre.ra.deg} {centre.dec.deg}".split()) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["n_exp", "6"]


def test_epochs_of_a_catalogue(folder, capsys):
    centre = load_mosaic(PREFIX).wcs.pixel_to_world(260, 200)
    table = QTable({"ra": [centre.ra.deg, 150.0] * u.deg, "dec": [centre.dec.deg, 2.0] * u.deg, "name": ["a", "b"]})
    table["ra"].info.description = "mine"
    table.write("mine.ecsv")
    assert main(f"epochs {PREFIX} --catalog mine.ecsv -o out.ecsv".split()) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "mine.ecsv: read as plain: positions ra dec; 1 of 3 columns are kept and not used"
    assert "2 rows, 1 covered" in told[1]
    back = QTable.read("out.ecsv")
    assert back["ra"].info.description == "mine"
    assert list(back["name"]) == ["a", "b"]
    assert list(back["n_exp"]) == [6, 0]
    assert back["exptime"][0] == 6 * 837.468 * u.s
    assert np.isnan(back["mjd_mean"][1])
    expect_error(
        capsys, f"epochs {PREFIX} --catalog out.ecsv -o more.ecsv", "already has the column n_exp", "--overwrite"
    )
    assert main(f"epochs {PREFIX} --catalog out.ecsv -o more.ecsv --overwrite".split()) == 0
    table.rename_column("ra", "alpha")
    table.write("greek.ecsv")
    expect_error(capsys, f"epochs {PREFIX} --catalog greek.ecsv -o x.fits", "greek.ecsv: the catalogue has no position")
    expect_error(capsys, f"epochs {PREFIX} --catalog {PREFIX}_drc_sci.fits.gz -o x.fits", "holds no table")
    expect_error(capsys, f"epochs {PREFIX} -o x.fits", "--catalog and -o belong together")


def test_plugins(folder, capsys):
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(BUILTINS)
    hooks = ["photplug_find,", "photplug_load"]
    assert any(line.split() == ["dja-loader", "built", "in", *hooks] for line in lines)


def test_existing_files_are_kept(folder, capsys):
    Path("cat.fits").write_text("precious")
    Path("seg.fits").write_text("precious")
    expect_error(capsys, f"catalog {PREFIX} -o cat.fits", "cat.fits: already exists", "--overwrite")
    # Found before the work, so the first output is not written either.
    expect_error(capsys, f"catalog {PREFIX} -o new.fits --segmentation seg.fits", "seg.fits: already exists")
    assert main(f"catalog {PREFIX} -o cat.fits --overwrite --quiet".split()) == 0
    assert len(QTable.read("cat.fits")) > 10
    expect_error(capsys, f"catalog {PREFIX} -o a.fits --segmentation a.fits", "two outputs have the same name")
    expect_error(capsys, f"catalog {PREFIX} -o no/a.fits", "folder no does not exist")
    expect_error(capsys, f"catalog {PREFIX} -o a.docx", "a.docx", ".fits")


def spoil_header(change) -> None:
    path = f"{PREFIX}_drc_sci.fits.gz"
    data, header = fits.getdata(path, header=True)
    change(header)
    write_image(path, data, header, overwrite=True)


def test_bad_input(folder, capsys):
    """Each is one line that names the file and what to do; status 1; no output file."""
    expect_error(capsys, "catalog nothing-v1-f444w-clear -o c.fits", "nothing-v1-f444w-clear", PREFIX)
    log = Path(f"{PREFIX}_wcs.csv")
    text = log.read_text()
    lines = text.splitlines()
    log.write_text("\n".join(",".join(line.split(",")[:5]) for line in lines))
    expect_error(capsys, f"catalog {PREFIX} -o c.fits", f"{PREFIX}_wcs.csv", "crpix2")
    log.write_text(text)
    weight = Path(f"{PREFIX}_drc_wht.fits.gz")
    whole = weight.read_bytes()
    weight.write_bytes(whole[: len(whole) // 2])
    for command in ("catalog", "weight"):
        expect_error(capsys, f"{command} {PREFIX} -o c.fits", weight.name, "truncated or damaged", "fetch it again")
    weight.unlink()
    expect_error(capsys, f"catalog {PREFIX} -o c.fits", f"{PREFIX}_drc_wht.fits")
    write_image(weight, np.ones((7, 9), np.float32), fits.Header())
    expect_error(capsys, f"weight {PREFIX} -o c.fits", weight.name, "9 x 7 pixels", "530 x 401")
    weight.write_bytes(whole)
    spoil_header(lambda header: header.remove("PHOTMJSR"))
    expect_error(capsys, f"weight {PREFIX} -o c.fits", f"{PREFIX}_drc_sci.fits.gz", "PHOTMJSR is missing", "phot-scale")
    spoil_header(lambda header: header.set("BUNIT", "MJy/sr"))
    expect_error(capsys, f"weight {PREFIX} -o c.fits", f"{PREFIX}_drc_sci.fits.gz", "'MJy/sr'", "convert")
    spoil_header(lambda header: header.set("BUNIT", "10*nanoJansky"))
    expect_error(capsys, f"catalog {PREFIX} -o c.fits --noise background --engine nope", "engine 'nope'", "sep-engine")
    expect_error(capsys, f"catalog {PREFIX} -o c.fits --n-sigma -1", "n_sigma: -1.0", "minimum")


def test_usage_errors_end_with_2(folder, capsys):
    for arguments in ([], ["nope"], ["catalog", PREFIX], ["weight", PREFIX, "-o", "x.fits", "--kind", "none"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "usage: dja-photplug" in capsys.readouterr().err


def test_usage_errors_of_words_with_line_breaks_are_one_line(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["weight", PREFIX, "more\u2028and\nmore", "-o", "w.fits"])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_interrupt_ends_with_130(folder, capsys, monkeypatch):
    def interrupt(*arguments, **keywords):
        assert list(Path().glob(".dja-photplug-*/files/x.fits"))  # in the middle of the rows
        raise KeyboardInterrupt

    monkeypatch.setattr("dja_photplug.mosaic.models.fullweight.FullWeight.__call__", interrupt)
    assert main(f"weight {PREFIX} -o x.fits".split()) == 130
    assert capsys.readouterr().err == "dja-photplug: interrupted\n"
    assert not [*Path().glob("*x.fits"), *Path().glob(".*")]


def test_debug_shows_the_traceback(folder):
    from dja_photplug import PhotplugError

    with pytest.raises(PhotplugError, match="no such mosaic"):
        main(["info", "nothing-v1-f444w-clear", "--debug"])


def test_photometric_keywords_that_differ_are_told(folder, capsys):
    spoil_header(lambda header: header.set("PHOTMJSR", 0.5))
    assert main(f"weight {PREFIX} -o w.fits".split()) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("dja-photplug: warning: PHOTMJSR is 0.5 in the science header")


def test_version_and_help_name_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for command in ("info", "weight", "catalog", "epochs", "demo", "plugins"):
        assert f"    {command}" in out


def test_module_runs_as_a_program(tmp_path):
    """Only where the package is installed: a bare checkout has no ``dja_photplug.hooks`` for a fresh interpreter."""
    probe = [sys.executable, "-c", "import dja_photplug.hooks"]
    if subprocess.run(probe, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("dja_photplug is not installed in this environment")
    run = subprocess.run(
        [sys.executable, "-m", "dja_photplug", "plugins"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0
    assert "sep-engine" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (f"catalgo {PREFIX}", "catalog"),
        (f"catalog {PREFIX} -o x.fits -neighbors keep", "--neighbours"),
        (f"catalog {PREFIX} -o x.fits --neighbors keep", "--neighbours"),
        (f"catalog {PREFIX} -o x.fits --sky mehs", "mesh"),
        (f"catalog {PREFIX} -o x.fits --noise calibratd", "calibrated"),
        (f"catalog {PREFIX} -o x.fits --engine photutil", "photutils"),
        (f"catalog {PREFIX} -o x.fits --detect f445w", "f444w"),
        (f"catalog {PREFIX} -o x.fits --psf f445w=psf.fits", "f444w"),
        (f"catalog {PREFIX} -o x.fist", ".fits"),
        (f"catalog {PREFIX} -o x.fits --plot x.pgn", ".png"),
        (f"epochs {PREFIX} --position 34.4 -5.2 --epoch-details angels", "angles"),
        (f"epochs {PREFIX} --catalog cat.fits[CATALGO] -o x.fits", "CATALOG"),
        (f"epochs {PREFIX} --catalog cat.fits --ra raa --dec dec -o x.fits", "ra"),
        (f"epochs {PREFIX} --catalog cat.fits --schema dga -o x.fits", "dja"),
        (f"galfit {PREFIX} --catalog cat.fits --id-column idd -o x", "id"),
        (f"info {PREFIX.replace('444', '445')}", PREFIX),
    ],
)  # fmt: skip
def test_the_nearest_name_is_offered(folder, capsys, arguments, meant):
    QTable({"id": [1], "ra": [34.4] * u.deg, "dec": [-5.2] * u.deg}, meta={"EXTNAME": "CATALOG"}).write("cat.fits")
    with suppress(SystemExit):  # of a usage error
        assert main(arguments.split()) == 1
    captured = capsys.readouterr()
    assert f"; did you mean {meant}?" in captured.err
    assert captured.err.count("\n") == 1


def misspell(word: str) -> set[str]:
    """Return a word as people mistype it: two letters swapped, one left out, one twice, capitals."""
    start = len(word) - len(word.lstrip("-"))
    middle = start + (len(word) - start) // 2
    one, two = word[middle - 1], word[middle]
    before, after = word[: middle - 1], word[middle + 1 :]
    typos = {before + two + one + after, before + two + after, before + one + one + two + after, word.upper()}
    return {typo for typo in typos if typo != word and len(typo) - start > 2}


def list_typos() -> list[tuple[str, list[str], str]]:
    """Return command lines with one typo in the name of a command, in a flag, or in a value that is one of several."""
    commands = next(each for each in build_parser(get_plugin_manager())._actions if each.dest == "command").choices
    lines = [([typo], name) for name in commands for typo in misspell(name)]
    for name, command in commands.items():
        for action in command._actions:
            flags = [flag for flag in action.option_strings if flag.startswith("--")]
            lines += [([name, typo], flag) for flag in flags for typo in misspell(flag)]
            values = [
                ([name, *flags[:1], typo], choice) for choice in action.choices or () for typo in misspell(choice)
            ]
            lines += values if action.option_strings or action.nargs is None else []
    return [(f"{words[0]} {words[-1]}", words, meant) for words, meant in lines]


def test_the_nearest_name_is_offered_of_every_command_flag_and_choice(capsys):
    """Another name than the one meant is as near to the typo: ``Juy`` is ``Jy`` with a letter more."""
    typos, others = list_typos(), []
    parser = build_parser(get_plugin_manager())
    for what, words, meant in typos:
        with suppress(SystemExit):
            parser.parse(words)
        said = capsys.readouterr().err
        assert said.count("\n") == 1, what
        offered = said.partition("did you mean ")[2].partition("?")[0]
        near, far = (SequenceMatcher(None, words[-1].lower(), name.lower()).ratio() for name in (offered, meant))
        others += [what] if offered != meant and near < far else []
    assert len(typos) > 800
    assert others == []


@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        ("", "dja-photplug: no command is given; there are info, weight, catalog"),
        ("help", "usage: dja-photplug [-h]"),
        ("help catalog", "usage: dja-photplug catalog PREFIX"),
        ("catalog --help", "usage: dja-photplug catalog PREFIX"),
        ("-V", "dja-photplug 0."),
        ("version", "dja-photplug 0."),
        ("help catalgo", "dja-photplug: argument COMMAND: 'catalgo' is not one of"),
    ],
)
def test_whoever_asks_for_help_gets_it(words, beginning, capsys):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    printed, told = capsys.readouterr()
    assert (told if end.value.code else printed).startswith(beginning)
    assert (end.value.code, told.count("\n")) in ((0, 0), (2, 1))


def test_values_with_one_dash_are_no_flags(folder):
    centre = load_mosaic(PREFIX, "background").wcs.pixel_to_world(260, 200)
    place = f"{centre.ra.to_string('hour', sep='hms')} {centre.dec.to_string(sep='dms')}"
    assert main(f"weight {PREFIX} -ow.fits --cutout {place} 4 --quiet".split()) == 0
    assert Path("w.fits").is_file()


def test_help_groups_flags_and_shows_their_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["catalog", "--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: dja-photplug catalog PREFIX [PREFIX ...] -o CAT.fits [options]\n")
    groups = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == [f"{name}:" for name in (
        *("positional arguments", "options", "common options", "engine", "variance", "background", "detect"),
        *("calibration", "measure", "epochs", "bands", "tiles", "output", "example"),
    )]  # fmt: skip
    words = " ".join(text.split())
    for default in (
        "(default calibrated)",
        "(default 1.5)",
        "(default no)",
        "(default auto)",
        "(default 0.36,0.5,0.7,1.0)",
    ):
        assert default in words


@pytest.mark.parametrize("run", ["console", "main"])
def test_only_a_process_of_its_own_leaves_no_garbage_to_look_for(run) -> None:
    code = (
        f"import gc, sys; from dja_photplug.cli.app import {run}; sys.argv = ['dja-photplug', 'plugins']; {run}();"
        "print(gc.get_freeze_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout.split()[-1]) > 0) == (run == "console")
