"""The benchmark: its mosaics, what it counts, its tables, and that its commands are those of today."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import benchmark
import dja_photplug as dp
import fields
import plain
import report
from cases import CASES, Setup, count_rows
from dja_photplug.cli.app import build_parser
from dja_photplug.errors import PhotplugError
from dja_photplug.plugins.manager import get_plugin_manager
from fields import DEPTHS, SECONDS, Field, make_field
from report import Record, Run
from watch import run_watched

LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs the /proc of Linux")


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    """Two bands of 480 x 480 pixels in patches of 160, so that there are seams."""
    made = Field(folder=tmp_path_factory.mktemp("bench"), side=480)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "PATCH", 160)
        assert len(list(make_field(made, 2, (50,)))) == 3
        assert list(make_field(made, 2, (50,))) == []
    fields._draw_noise.cache_clear()
    return made


def read(field: Field, band: int, kind: str) -> np.ndarray:
    return fits.getdata(f"{field.prefix(band)}_drc_{kind}.fits.gz").astype(float)


def test_mosaic_has_data_inside_its_frame_at_three_depths(field: Field) -> None:
    science, weight, exposure = (read(field, 0, kind) for kind in ("sci", "wht", "exp"))
    inside = np.zeros((480, 480), bool)
    inside[22:454, 22:454] = True  # 24 pixels a side, from where the nearest sample is one with data
    np.testing.assert_array_equal(weight > 0, inside)
    assert np.all(science[~inside] == 0)
    for i, depth in enumerate(DEPTHS):
        strip = np.s_[30:440, 40 + 144 * i : 140 + 144 * i]
        # sigma is 0.02 at the depth of 40 exposures
        assert np.median(weight[strip]) == pytest.approx(2500 * depth / 40, rel=0.01)
        assert np.std(np.log(weight[strip])) == pytest.approx(0.15, abs=0.01)
        pull = science[strip] * np.sqrt(weight[strip])
        # Drizzling correlates pixels: 0.62 to 0.65 of what the weight says, and sources beside.
        assert np.subtract(*np.percentile(pull, [50, 16])) == pytest.approx(0.64, abs=0.06)
        assert set(np.unique(exposure[8:110, 12 + 36 * i : 34 + 36 * i])) == {depth * SECONDS}


def test_log_covers_each_strip_as_often_as_the_exposure_map_says(field: Field) -> None:
    image = dp.load_mosaic(field.prefix(0), noise="calibrated")
    log = dp.read_exposure_log(f"{field.prefix(0)}_wcs.csv")
    places = image.wcs.pixel_to_world([90, 238, 380], [90, 240, 380])
    np.testing.assert_array_equal(log.coverage(places).toarray().sum(axis=1), DEPTHS)
    assert len(set(log.table["file"])) == len(log)
    np.testing.assert_array_equal(image.mask, read(field, 0, "wht") == 0)


def test_bands_have_the_same_sources_and_their_own_noise(field: Field) -> None:
    first, second = (read(field, band, "sci")[30:440, 30:440] for band in (0, 1))
    bright = first > 0.3
    assert np.median(second[bright] / first[bright]) == pytest.approx(0.8, abs=0.2)
    blank = (np.abs(first) < 0.05) & (np.abs(second) < 0.05)
    assert abs(np.corrcoef(first[blank], second[blank])[0, 1]) < 0.1


def test_unzipped_planes_and_positions_are_those_of_the_mosaic(field: Field) -> None:
    for kind in ("sci", "wht"):
        np.testing.assert_array_equal(fits.getdata(field.plane(1, kind)), read(field, 1, kind))
        assert fits.getheader(field.plane(1, kind)) == fits.getheader(f"{field.prefix(1)}_drc_{kind}.fits.gz")
    table = Table.read(field.positions(50))
    x, y = dp.load_mosaic(field.prefix(0)).wcs.all_world2pix(table["ra"], table["dec"], 0)
    assert len(table) == 50
    assert np.all((x > 41) & (x < 435) & (y > 41) & (y < 435))


def test_published_recipe_gives_the_weight_of_the_preset(field: Field, tmp_path: Path) -> None:
    output = tmp_path / "recipe.fits"
    plain.weigh_as_published(*(f"{field.prefix(0)}_drc_{k}.fits.gz" for k in ("sci", "wht", "exp")), str(output))()
    recipe = fits.getdata(output)
    known = np.isfinite(recipe) & (recipe > 0)
    assert known.mean() > 0.75
    ours = dp.load_mosaic(field.prefix(0), noise="dja").uncertainty.array
    np.testing.assert_allclose(ours[known], recipe[known], rtol=1e-6)


def test_plain_sep_finds_what_our_catalogue_has(field: Field, tmp_path: Path) -> None:
    output = tmp_path / "sep.fits"
    plain.measure_with_sep(str(field.plane(0, "sci")), str(field.plane(0, "wht")), str(output))()
    found = Table.read(output)
    options = dp.Options(
        variance=dp.VarianceOptions(noise="background"),
        measure=dp.MeasureOptions(background="none", neighbours="mask"),
    )
    ours = dp.run([field.prefix(0)], options).catalog
    assert len(found) == len(ours) > 5
    for name in ("x", "y"):
        np.testing.assert_allclose(ours[name].value, found[name], atol=0.05)
    # The same apertures on the same pixels, neighbours masked by both; uJy, and 10 nJy.
    for i in range(4):
        np.testing.assert_allclose(100 * ours[f"flux_aper_{i}"].value, found[f"flux_{i}"], rtol=0.02)


@pytest.mark.parametrize(
    ("side", "density", "told"),
    [(399, 1, "side 399"), (396, 1, "side 396"), (402, 1, "side 402"), (400, -1, "density -1")],
)
def test_impossible_mosaics_are_refused(side: int, density: float, told: str, tmp_path: Path) -> None:
    with pytest.raises(PhotplugError, match=told):
        Field(folder=tmp_path, side=side, density=density)


def test_full_disk_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(PhotplugError, match=r"1 bands of 4000000 x 4000000 pixels need 248000.0 GB"):
        list(make_field(Field(folder=tmp_path, side=4_000_000)))


CHILD = "import time\nlarge = b'x' * 100_000_000\nwhile time.process_time() < 0.4: pass\ntime.sleep(1)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True); print('done')"


@LINUX
def test_cost_is_that_of_all_processes() -> None:
    cost = run_watched([[sys.executable, "-c", PARENT]])
    assert cost.printed == "done\n"
    assert cost.seconds > 0.3
    assert cost.cpu > 0.4
    # 100 MB in the child, and two interpreters.
    assert 1e8 < cost.memory["anonymous"] < 2e8
    assert cost.memory["anonymous"] < cost.memory["pss"]
    assert cost.left == 0


FORKED = """
import multiprocessing, time
def work(number):
    while time.process_time() < 1: pass
if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        pool.map(work, [1])
"""


@LINUX
def test_time_of_a_fork_servers_processes_counts(tmp_path: Path) -> None:
    """They are not its own children, whose time a process is told."""
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    assert run_watched([[sys.executable, str(script)]]).cpu > 0.8


@LINUX
def test_commands_at_a_time_are_added_up() -> None:
    together, in_turn = (run_watched([[sys.executable, "-c", CHILD]] * 2, parallel) for parallel in (2, 1))
    assert together.memory["anonymous"] > 2e8 > in_turn.memory["anonymous"]
    assert min(together.cpu, in_turn.cpu) > 0.8


@LINUX
def test_processes_left_behind_are_counted() -> None:
    left = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)']).pid)"
    cost = run_watched([[sys.executable, "-c", left]])
    os.kill(int(cost.printed), 9)
    assert cost.left == 1


@LINUX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_benchmark_ends_what_it_runs(number: int, status: int, tmp_path: Path) -> None:
    """The real script; its case is replaced by one that sleeps, and says who it is."""
    told = tmp_path / "pid"
    sleeping = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"""
import signal, sys, benchmark, cases
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a run in the background of a shell has not
cases.CASES["decompress"] = cases.Case(
    title="sleep", job=lambda *_: cases.Job(commands=[[sys.executable, "-c", {sleeping!r}]], outputs=())
)
benchmark.make = lambda arguments: None
where = [{str(tmp_path)!r}, "-o", {str(tmp_path / "r.json")!r}]
sys.exit(benchmark.main(["run", *where, "--cases", "decompress", "--sides", "1000"]))
"""
    place = Path(benchmark.__file__).parent
    process = subprocess.Popen([sys.executable, "-c", code], cwd=place, stderr=subprocess.PIPE, text=True)
    while not told.exists() or not told.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == status
    assert not Path(f"/proc/{told.read_text()}").exists()
    assert "Traceback" not in err


def test_failed_command_is_told_by_its_last_line() -> None:
    with pytest.raises(PhotplugError, match="ended with status 3: no such band"):
        run_watched([[sys.executable, "-c", "import sys; print('no such band', file=sys.stderr); sys.exit(3)"]])


def record(case: str, turn: int, seconds: float, n: int = 1, side: int = 100, anonymous: int = 10**9) -> Record:
    memory = {"pss": 2 * anonymous, "anonymous": anonymous}
    return Record(
        case=case, title=CASES[case].title, round=turn, side=side, density=220.0, n=n, seconds=seconds,
        cpu=2 * seconds, call=seconds / 2, memory=memory, rows=n,
    )  # fmt: skip


def test_tables_are_medians_of_ratios_within_rounds(tmp_path: Path) -> None:
    """By hand: 2/1, 6/2, 4/4 have the median 2; the medians of the times alone, 4 and 2, are no ratio of a round."""
    times = [(2.0, 1.0), (6.0, 2.0), (4.0, 4.0)]
    records = [
        record(case, turn, pair[i]) for turn, pair in enumerate(times) for i, case in enumerate(("catalog", "se"))
    ]
    records += [record("extend", 0, 5.0, n=10), record("extend", 0, 25.0, n=100), record("load", 0, 1.0)]
    records += [record("decompress", 0, 0.8), record("catalog", 0, 9.0, side=200, anonymous=3 * 10**9)]
    path = tmp_path / "results.json"
    run = Run(about={"cores": "2"}, left_out={"se-dual": "source-extractor is not installed"}, records=records)
    report.write_runs(path, [run])
    assert json.loads(path.read_text())[0]["records"][0]["seconds"] == 2.0
    runs = report.read_runs(path)
    assert runs == [run]
    ratios = report.show_ratios(runs)
    assert "| `catalog` / source-extractor | 2.00 | 1.00 to 3.00 | 2.00 |" in ratios
    assert "| `load_mosaic` / bare inflating of both files (calls) | 1.25 |  |  |" in ratios
    assert "| `extend`, time per row: 100 / 10 rows | 0.500 |  | 0.500 |" in ratios
    cases = report.show_cases(runs)
    assert "| `catalog` | 1 | 4.0 s | 2.0 s | 8.0 s | 2.00 GB | 1.00 GB |" in cases
    assert "Left out: source-extractor is not installed: `se-dual`." in cases
    growth = report.show_growth(runs)
    # Four times the pixels in 4.5 times the time of the same round.
    assert "| `catalog` | 200 | 1 | 9.0 s | 4.5 s | 18.0 s | 6.00 GB | 3.00 GB | 1.12 |" in growth
    assert "| `extend`, 100 x 100 | 100 | 100 | 25.0 s | 12.5 s | 50.0 s | 2.00 GB | 1.00 GB | 0.50 |" in growth


@pytest.mark.parametrize("text", ["", "[1]", '[{"about": {}}]', '[{"records": [{"case": 1}]}]'])
def test_file_of_no_run_is_told(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    assert benchmark.main(["show", str(path)]) == 1
    path.write_text(text)
    assert benchmark.main(["show", str(path)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "No such file" in first
    assert "not the file of a run" in second


def test_program_that_is_not_installed_is_left_out_and_named(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "480-220").symlink_to(field.folder)
    output = tmp_path / "results.json"
    words = ["run", str(tmp_path), "-o", str(output), "--sides", "480", "--cases", "decompress", "se", "--rounds", "2"]
    assert benchmark.main(words) == 0
    printed = capsys.readouterr().out
    assert "leaving out se: source-extractor is not installed" in printed
    assert "Left out: source-extractor is not installed: `se`." in printed
    [run] = report.read_runs(output)
    assert [(record.case, record.round) for record in run.records] == [("decompress", 0), ("decompress", 1)]
    assert benchmark.main(words) == 1
    assert "exists; give --append or --overwrite" in capsys.readouterr().err
    assert benchmark.main([*words, "--append"]) == 0
    assert len(report.read_runs(output)) == 2


def test_unknown_case_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["run", str(tmp_path), "-o", "r.json", "--cases", "catalogue"])
    assert "invalid choice: 'catalogue'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_commands_are_those_of_today(field: Field) -> None:
    """Each of our commands is one that the parser takes, and each other one names files that are there."""
    parser, setup = build_parser(get_plugin_manager()), Setup(segmentation=True)
    for name, case in CASES.items():
        n = 50 if case.over == "positions" else 2 if case.over == "bands" else 1
        jobs = [make(field, setup, n) for make in (case.before, case.job) if make is not None and name != "galfit"]
        for command in (command for job in jobs for command in job.commands):
            if "dja_photplug" in command:
                assert parser.parse_args(command[command.index("dja_photplug") + 1 :]).command, name
            else:
                given = [
                    Path(word)
                    for word in command
                    if word.endswith((".gz", ".sex")) or ("/plain/" in word and "," not in word)
                ]
                assert given or name in ("load", "neighbours"), name
                assert all(path.exists() for path in given), name


def test_settings_of_source_extractor_are_our_defaults(field: Field) -> None:
    CASES["se"].job(field, Setup(), 1)
    folder = field.folder / "source-extractor"
    settings = dict(line.split(maxsplit=1) for line in (folder / "mosaic.sex").read_text().splitlines())
    numbers = {
        "DETECT_THRESH": 1.5,
        "DETECT_MINAREA": 9,
        "DEBLEND_NTHRESH": 32,
        "DEBLEND_MINCONT": 0.001,
        "BACK_SIZE": 50,
    }
    assert {name: float(settings[name]) for name in numbers} == numbers
    assert settings["PHOT_APERTURES"] == "9,12.5,17.5,25"
    kernel = np.loadtxt(settings["FILTER_NAME"], skiprows=2)
    # A Gaussian of 3 pixels FWHM.
    np.testing.assert_allclose(kernel[3] / kernel[3, 3], 2.0 ** -((np.arange(-3, 4) / 1.5) ** 2), atol=0.02)


def test_rows_are_counted_of_tables_alone(field: Field, tmp_path: Path) -> None:
    assert count_rows(field.positions(50)) == 50
    assert count_rows(field.psf) is None


@pytest.mark.parametrize("place", ["docs/performance.md", "benchmarks/benchmark.py", ".ci/run"])
def test_shown_commands_are_those_of_the_script(place: str) -> None:
    text = (Path(__file__).resolve().parents[2] / place).read_text().replace("\\\n", " ")
    shown = re.findall(r"benchmarks/benchmark\.py ([a-z].*?)(?:   .*|>.*)?$", text, re.MULTILINE)
    assert shown
    for words in shown:
        assert benchmark.build_parser().parse_args(shlex.split(words)).command, words
