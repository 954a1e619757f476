"""The example of a plugin, as an author publishes it: built, installed beside dja_photplug, tested and used."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import dja_photplug
from dja_photplug.simulate.mosaic import SimulatedMosaic
from tests.helpers import make_row, write_rows

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "example_plugin"
F200W = "jw01345-o001_t021_nircam_clear-f200w_i2d.fits"
F444W = "jw01345-o001_t021_nircam_clear-f444w_i2d.fits"
FLUX = np.geomspace(1, 20, 16)  # uJy, of the sources in the files that its tests write


def call(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with nothing of this checkout on its path."""
    return subprocess.run([*map(str, command)], cwd=folder, env=keep_environment(), capture_output=True, text=True)


def keep_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DJA_PHOTPLUG", "PYTEST"))}


def succeed(*command: str | Path, folder: Path) -> str:
    """Return what a command prints, without a word on stderr."""
    ran = call(*command, folder=folder)
    assert (ran.returncode, ran.stderr) == (0, ""), f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def copy_project(source: Path, folder: Path, names: list[str]) -> Path:
    """Copy what a wheel is built from, so that the build leaves nothing in the checkout."""
    folder.mkdir()
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source / name, folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a new environment's programs, with the wheels of dja_photplug and of the example installed.

    All processes of a run of the tests share one.
    """
    pytest.importorskip("setuptools", minversion="77", reason="building wheels needs the extra test")
    pytest.importorskip("wheel", reason="building wheels needs the extra test")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    programs = folder / "example" / "venv" / ("Scripts" if os.name == "nt" else "bin")
    with (folder / "example.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if lock.read() != "made":
            make_environment(folder / "example", programs)
            lock.write("made")
    return programs


def make_environment(folder: Path, programs: Path) -> None:
    """Build both wheels, and install them in a new environment."""
    folder.mkdir()
    parts = ["pyproject.toml", "README.md", "LICENSE", "dja_photplug", "hooks"]
    projects = [
        copy_project(ROOT, folder / "dja_photplug", parts),
        copy_project(EXAMPLE, folder / "photplug-jwst-i2d", ["pyproject.toml", "README.md", "src"]),
    ]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels, new = folder / "wheels", folder / "venv"
    succeed(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", wheels, *projects, folder=folder)
    built = sorted(wheels.iterdir())
    version = dja_photplug.__version__
    assert [path.name for path in built] == [
        f"dja_photplug-{version}-py3-none-any.whl",
        "photplug_jwst_i2d-1.0-py3-none-any.whl",
    ]
    succeed(sys.executable, "-m", "venv", "--without-pip", new, folder=folder)
    succeed(*pip, "--python", programs / "python", "install", "--no-index", "--no-deps", *built, folder=folder)
    # The dependencies are those of the running environment. They come after the new one's own packages on the path, so
    # that these win over a dja_photplug there.
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(succeed(programs / "python", "-c", code, folder=folder).strip())
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in others))
    code = "import dja_photplug.hooks, photplug_jwst_i2d as example; print(dja_photplug.__file__, example.__file__)"
    imported = succeed(programs / "python", "-c", code, folder=folder).split()
    assert imported == [str(site / name / "__init__.py") for name in ("dja_photplug", "photplug_jwst_i2d")]


def load_writer() -> ModuleType:
    """Return the module of the example's tests that writes i2d files."""
    spec = spec_from_file_location("i2d_files", EXAMPLE / "tests" / "i2d_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Runs commands in the new environment, each in a copy of a process that has imported what it needs: half of the time.
SERVER = """
import io, json, os, sys
import dja_photplug.cli.commands.catalog, dja_photplug.pipeline.one_band, dja_photplug.engines.sep_engine, photutils
from dja_photplug.cli.app import main

for line in sys.stdin:
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        said = os.fdopen(read).read()
        os.waitpid(child, 0)
        print(said, flush=True)
        continue
    sys.argv[0], sys.stdout, sys.stderr = "dja-photplug", io.StringIO(), io.StringIO()
    try:
        status = main(json.loads(line))
    except SystemExit as end:
        status = end.code or 0
    with os.fdopen(write, "w") as answer:
        json.dump([status, sys.stdout.getvalue(), sys.stderr.getvalue()], answer)
    os._exit(0)
"""


class Shell:
    """``dja-photplug`` of the new environment, in a folder with i2d files of two bands and one TOML file."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.program, self.folder = programs / "dja-photplug", folder
        writer = load_writer()
        writer.write_i2d(folder / F200W, pixel=0.03)
        writer.write_i2d(folder / F444W, pixel=0.06, seed=2)
        np.testing.assert_array_equal(writer.FLUX, FLUX)
        (folder / "flat.toml").write_text("[flat]\nerror = 0.03\n")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [programs / "python", "-c", SERVER]
        self.server = subprocess.Popen(command, cwd=folder, env=keep_environment(), text=True, **pipes)

    def ask(self, arguments: str) -> tuple[int, str, str]:
        """Return status, stdout and stderr of a command."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(arguments.split()) + "\n")
        self.server.stdin.flush()
        return tuple(json.loads(self.server.stdout.readline()))

    def __call__(self, arguments: str) -> str:
        status, stdout, stderr = self.ask(arguments)
        assert (status, stderr) == (0, ""), arguments
        return stdout

    def refuse(self, arguments: str) -> str:
        """Return the one line on stderr of a command that ends with status 1."""
        status, stdout, stderr = self.ask(arguments)
        assert (status, stdout) == (1, "")
        return stderr

    def read(self, name: str) -> Table:
        return Table.read(self.folder / name)


@pytest.fixture(scope="module")
def shell(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(environment, tmp_path_factory.mktemp("shell"))
    with shell.server:  # which ends with its input
        yield shell


def test_its_own_tests_pass(environment: Path, tmp_path: Path) -> None:
    copy = copy_project(EXAMPLE, tmp_path / "copy", ["pyproject.toml", "tests"])
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    said = succeed(environment / "python", "-m", "pytest", *options, folder=copy)
    assert said.splitlines()[-1].startswith("20 passed in ")


def test_plugins_and_help_show_it(shell: Shell) -> None:
    assert succeed(shell.program, "plugins", folder=shell.folder).splitlines()[0] == (
        "jwst-i2d         photplug-jwst-i2d 1.0 photplug_calibrate, photplug_columns, photplug_find, photplug_load, "
        "photplug_options, photplug_register_commands, photplug_variance"
    )
    assert "i2d-noise" in shell("--help")
    for command in ("catalog", "extend", "galfit", "inject", "weight"):
        assert (
            "flat: The table [flat] of TOML files --flat-error NUMBER error of the flat field, as a fraction of the "
            "signal (default 0.01)" in " ".join(shell(f"{command} --help").split())
        )
    said = " ".join(shell("i2d-noise --help").split())
    # Which is quick, as plugins of others import nothing heavy, and nothing is imported on their account.
    code = "import sys; from dja_photplug.cli.app import main; main(['plugins']); print('numpy' in sys.modules)"
    assert succeed(shell.program.with_name("python"), "-c", code, folder=shell.folder).splitlines()[-1] == "False"
    assert "--aperture ARCSEC diameter of the aperture of the depth, in arcsec (default 0.32)" in said


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("", 0.01),
        pytest.param("--config flat.toml", 0.03, marks=pytest.mark.slow),
        ("--config flat.toml --flat-error 0.05", 0.05),
    ],
)
def test_two_bands_make_one_catalogue(shell: Shell, flags: str, error: float) -> None:
    output = f"cat{error}.fits"
    assert shell(f"catalog {F200W} {F444W} -o {output} {flags}") == (
        f"{output}: 16 sources detected on stack, engine sep, noise preset calibrated, variance of {F200W} as it is\n"
    )
    catalog = shell.read(output)
    assert json.loads(catalog.meta["OPTIONS"])["flat"] == {"error": error}
    for i, (band, name) in enumerate({"f200w": F200W, "f444w": F444W}.items()):
        # In an aperture of 1 arcsec, 7 sigma of the sources in radius. Errors are 0.5 to 4 % of the fluxes.
        flux = np.sort(catalog[f"{band}_flux_aper_3"])
        np.testing.assert_allclose(flux, FLUX, rtol=0.1)
        np.testing.assert_allclose(catalog[f"{band}_fluxerr_flat"], error * catalog[f"{band}_flux_auto"])
        assert catalog[f"{band}_fluxerr_flat"].unit == "uJy"
        meta = json.loads(catalog.meta[f"BAND_{i}"])
        expected = {"band": band, "INPUT": name, "VARFILE": name, "NOISE": "calibrated", "EPOCHS": "no WCS log"}
        assert {key: meta[key] for key in expected} == expected
        assert meta["AR_RAD"]


def test_what_is_wrong_is_said(shell: Shell) -> None:
    assert shell.refuse(f"catalog {F200W} -o x.fits --flat-error 2") == (
        "dja-photplug: option error: 2.0 is above its maximum 1; change --flat-error\n"
    )
    missing = F200W.replace("f200w", "f277w")
    assert shell.refuse(f"info {missing}") == (
        f"dja-photplug: plugin 'jwst-i2d' failed in photplug_find: {missing}: no such file\n"
    )
    assert shell.refuse("i2d-noise field") == ("dja-photplug: field: not the name of an i2d mosaic (jw..._i2d.fits)\n")
    assert shell.refuse(f"inject {F200W} --realisations 1 -o x.fits") == (
        f"dja-photplug: electrons of the injected light: {F200W} was loaded without a noise model; inject without "
        "(photons 'none'), or let its loader take the model that `variance` gives\n"
    )


def test_flat_noise_of_a_dja_mosaic(shell: Shell, simulated: SimulatedMosaic) -> None:
    shell(f"weight {simulated.prefix} --noise calibrated -o calibrated.fits")
    said = shell(f"weight {simulated.prefix} --noise flat --flat-error 0.1 -o flat.fits")
    assert said == (
        "flat.fits: weight, noise preset flat: detector gain 1.88 e-/DN (table, by the WCS log), registered exposure "
        "map\n"
    )
    weight = fits.getdata(shell.folder / "calibrated.fits")
    flat, header = fits.getdata(shell.folder / "flat.fits", header=True)
    assert (header["NOISE"], header["FLATERR"]) == ("flat", 0.1)
    data = weight > 0
    science = fits.getdata(f"{simulated.prefix}_drc_sci.fits.gz")
    np.testing.assert_array_equal(flat > 0, data)
    np.testing.assert_allclose(1 / flat[data], 1 / weight[data] + (0.1 * science[data]) ** 2, rtol=1e-5)
    shell(f"catalog {simulated.prefix} --noise flat --flat-error 0.1 -o dja.fits")
    shell(f"catalog {simulated.prefix} --noise calibrated -o plain.fits --flat-error 0.1")
    catalog, plain = shell.read("dja.fits"), shell.read("plain.fits")
    assert (catalog.meta["NOISE"], catalog.meta["FLATERR"]) == ("flat", 0.1)
    assert catalog.meta["DETGAIN"] == pytest.approx(1.88)
    assert catalog.meta["AR_RAD"]  # it has a(r) as the preset calibrated has
    brightest, other = (np.argmax(table["flux_auto"]) for table in (catalog, plain))
    assert catalog["fluxerr_auto"][brightest] > 2 * plain["fluxerr_auto"][other]
    np.testing.assert_allclose(catalog["fluxerr_flat"], 0.1 * np.abs(catalog["flux_auto"]))


def test_every_command_takes_an_i2d_file(shell: Shell) -> None:
    assert shell(f"info {F200W}").splitlines() == [
        "source      jw01345-o001_t021_nircam_clear-f200w   band f200w",
        "log         none",
        "size        400 x 400 pixels of 30.0 mas, unit 10 nJy once loaded",
        "centre      14h19m36.00s +52d48m00.00s",
        f"noise       noise preset dja, variance of {F200W} as it is; 92.2% of the pixels have data",
    ]
    assert shell(f"i2d-noise {F200W}").splitlines() == [
        "source      jw01345-o001_t021_nircam_clear-f200w   band f200w",
        "sky         5.299 nJy in the median of 147456 pixels with data",
        "noise       0.396 nJy in the median pixel",
        "variance    71.4% photons, 28.6% read noise",
        "depth       28.22 mag, 5 sigma in 0.32 arcsec if pixels were not correlated",
    ]
    shell(f"catalog {F200W} -o one.fits")
    read, added = shell(f"extend one.fits {F444W} -o both.fits").splitlines()
    assert read.startswith("one.fits: read as photplug: positions ra dec, ids id, shapes a b theta kron_radius")
    assert added == "both.fits: 16 rows, 48 columns added, noise preset calibrated, fluxes in uJy"
    both = shell.read("both.fits")
    np.testing.assert_allclose(both["f444w_flux_aper_3"], both["flux_aper_3"], rtol=0.15)
    np.testing.assert_allclose(both["f444w_fluxerr_flat"], 0.01 * both["f444w_flux_auto"])
    said = shell(f"inject {F200W} --photons none --realisations 4 -o injected.fits --sources each.fits")
    each = shell.read("each.fits")
    assert said.startswith(f"injected.fits, each.fits: {len(each)} point sources injected, complete to 50 % at 27.")
    bright = each[(each["mag"] < 26) & ~each["blended"]]
    assert bright["recovered"].all()
    np.testing.assert_allclose(bright["flux"], bright["flux_true"], rtol=0.3)
    read, written = shell(
        f"galfit {F200W} --catalog one.fits --id 3 --noise flat --flat-error 0.2 -o stamps"
    ).splitlines()
    assert read.startswith("one.fits: read as photplug")
    assert written == "stamps: 5 files of 1 stamps, noise preset flat"
    [sigma] = (shell.folder / "stamps").glob("*sigma*.fits")
    [science] = (shell.folder / "stamps").glob("*sci*.fits")
    light = fits.getdata(science)
    assert fits.getdata(sigma)[np.unravel_index(np.argmax(light), light.shape)] > 0.2 * light.max()


def test_bands_in_processes_of_their_own(shell: Shell) -> None:
    """A source of a plugin, and its grid, travel to other processes."""
    shell(f"catalog {F200W} {F444W} -o workers.fits --detect f444w --workers 2")
    assert {"f200w_fluxerr_flat", "f444w_fluxerr_flat"} < set(shell.read("workers.fits").colnames)


def test_log_beside_an_i2d_file_gives_epochs(shell: Shell) -> None:
    log = F444W.replace("_i2d.fits", "_wcs.csv")
    second = {"file": "jw01837001001_04201_00002_nrcalong_rate.fits", "mjd-avg": 60010.5}
    rows = [make_row(crval1=214.9, crval2=52.8), make_row(crval1=214.9, crval2=52.8, **second)]
    write_rows(shell.folder / log, rows)
    printed = dict(line.split(maxsplit=1) for line in shell(f"epochs {F444W} --position 214.9 52.8").splitlines())
    assert (printed["n_exp"], float(printed["exptime"].split()[0])) == ("2", 201.8)
    assert printed["mjd_mean"] == "60005.5000000 d"
    shell(f"catalog {F444W} -o epochs.fits")
    catalog = shell.read("epochs.fits")
    assert catalog.meta["EPOCHS"] == log
    assert catalog["n_exp"].tolist() == [2] * 16


def test_it_imports_what_is_public_alone() -> None:
    imported: dict[str, set[str]] = {}
    for path in EXAMPLE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    imported.setdefault(alias.name, set())
    ours = {module for module in imported if module.partition(".")[0] == "dja_photplug"}
    assert ours == {"dja_photplug", "dja_photplug.plugin", "dja_photplug.testing"}
    # `from dja_photplug import pipeline` would be a way round.
    assert imported["dja_photplug"] <= set(dja_photplug.__all__)
