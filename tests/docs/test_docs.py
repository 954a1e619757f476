"""README and documentation: every command and every Python block runs, and what they list is what the code has."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table
from scipy.ndimage import label

import dja_photplug as dp
from dja_photplug import hookspecs
from dja_photplug import plugin as front_door
from dja_photplug.archive.releases import ARCHIVE_URL, URL_VARIABLE
from dja_photplug.cli.about import demonstration
from dja_photplug.cli.app import main
from dja_photplug.cli.examples import EXAMPLES
from dja_photplug.files.pixels import read_image
from dja_photplug.files.written import write_image
from dja_photplug.mosaic.models.electrons import DETECTOR_GAINS
from dja_photplug.options.arguments import collect_options
from dja_photplug.plugins.options import plugin_stages
from dja_photplug.psf.model import encircled_energy, read_psf
from dja_photplug.remote.cache import CACHE_VARIABLE
from dja_photplug.simulate.diffraction import make_psf
from dja_photplug.simulate.field import FieldOptions, simulate_field, write_field
from dja_photplug.simulate.mosaic import MosaicOptions, SceneOptions, simulate_mosaic, simulate_scene
from dja_photplug.sky.grid import header_wcs
from tests.helpers import AS_IS, write_eazy_inputs
from tests.remote.server import serve_folder

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
HANDOVERS = ROOT / "docs" / "handovers.md"
BY_THEMSELVES = (HANDOVERS, ROOT / "docs" / "tutorial.md")
PROGRAMS = [
    "stilts",
    "galfit",
    *(pytest.param(name, marks=pytest.mark.fitters) for name in ("eazy", "statmorph", "pysersic", "glue", "jdaviz")),
]


def expect_taken(program: str, names: dict[str, Any]) -> None:
    """See what a program made of what it was handed; `names` are those of the page."""
    catalog = QTable.read("cat.fits")
    match program:
        case "stilts":
            red = Table.read("red.fits")
            assert 0 < len(red) == np.sum(catalog["f444w_mag_auto"].value < 26) < len(catalog)
            assert (red["colour"].unit, red["ra"].unit) == (u.mag, u.deg)
            described = catalog["f444w_mag_auto"].info.description
            assert fits.getheader("red.fits", 1)["TCOMM5"] == described  # by STILTS; astropy does not read it
        case "galfit":
            assert Path("14_model.fits").exists()
        case "eazy":
            assert names["fit"].flux_columns == ["f444w_tot_1", "f115w_tot_1"]
            assert len(names["fit"].zbest) == len(catalog)
        case "statmorph":
            assert 0.3 < names["morphology"].gini < 0.8
        case "pysersic":
            [row] = catalog[catalog["id"] == 14]
            assert float(names["best"]["flux"]) == pytest.approx(row["flux_auto"].to_value("10 nJy"), rel=0.3)
        case "glue":
            [bright] = [subset for subset in names["bright"].subsets if subset.data is names["sources"]]
            assert bright.to_mask().sum() == np.sum(catalog["f444w_flux_auto"] > 1 * u.uJy)
            assert names["mosaic"][names["sources"].id["ra"]].shape == names["mosaic"].shape  # by the links
        case "jdaviz":
            assert {"F444W[DATA]", "sources"} <= set(names["imviz"].data_labels)
            assert len(names["footprints"].overlay.choices) == len(names["log"])


def load_script(name: str) -> ModuleType:
    spec = spec_from_file_location(name, ROOT / "docs" / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module


pages = load_script("pages")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small simulated field with the names and the place of the files in the documentation.

    F444W with 40 mas, F115W with 20 mas, their PSFs, and the segments of the noise-free light in F444W.
    """
    folder = tmp_path_factory.mktemp("mosaic") / "data"
    scene = simulate_scene(
        SceneOptions(ra=34.3033, dec=-5.1113, shape=(240, 300), bands=("f444w", "f115w"), n_sources=40)
    )
    for name, subsample, fwhm in (("nrca5-f444w", 1, 0.145), ("nrca3-f115w", 2, 0.06)):
        filter = f"{name[-5:]}-clear"
        mosaic = MosaicOptions(
            root="uds-test-v7.4", filter=filter, n_exposures=2, subsample=subsample, psf_fwhm=fwhm, pixfrac=1
        )
        simulate_mosaic(folder, scene, mosaic)
        y, x = np.indices((101, 101)) - 50
        psf = np.exp(-4 * np.log(2) * (x**2 + y**2) * (0.04 / fwhm) ** 2)
        psf *= 0.95 / psf.sum()
        write_image(folder / f"psf-ceers-{name}.fits", psf.astype(np.float32), fits.Header({"PIXSCL": 0.04}))
    truth, header = read_image(folder / "uds-test-v7.4-f444w-clear_truth_sci.fits.gz")
    segments, _ = label(truth > 1)
    write_image(folder / "uds-test-v7.4-lw_seg.fits.gz", segments, header_wcs(header).to_header())
    simulate_star_field(folder)
    return folder


def simulate_star_field(folder: Path) -> None:
    """Write a field of stars with a diffraction PSF and two rolls, and the PSF of its detector."""
    size = SceneOptions(ra=214.9, dec=52.9, shape=(600, 600), bands=("f444w",), n_sources=25, isolated=True)
    scene = simulate_scene(replace(size, star_fraction=0.9, flux_range=(2.0, 20.0), flux_slope=0.0))
    mosaic = MosaicOptions(root="ceers-test-v7.4", psf="diffraction", n_exposures=2, detector_size=330, bad_fraction=0)
    simulate_mosaic(folder, scene, mosaic)
    psf = make_psf("f444w-clear")
    cards = {"PIXSCL": psf.scale, "DETECTOR": "NRCALONG", "FILTER": "F444W"}
    write_image(folder / "nrcalong-f444w.fits", psf.pixels().astype(np.float32), fits.Header(cards))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server with what the documentation fetches: a small field of that name and place, and its index."""
    folder = tmp_path_factory.mktemp("archive")
    size = SceneOptions(ra=110.8375, dec=-73.4539, shape=(300, 300), bands=("f444w",), n_sources=40)
    mosaic = MosaicOptions(root="smacs0723-grizli-v7.0", n_exposures=2, psf_fwhm=0.145, pixfrac=1)
    simulate_mosaic(folder, simulate_scene(size), mosaic)
    for path in list(folder.glob("*f444w*")):
        shutil.copy(path, folder / path.name.replace("f444w", "f277w"))
    (folder / "index.csv").write_text("".join(f"{path.name}\n" for path in folder.iterdir()))
    with serve_folder(folder) as server:
        yield server.url


def install(project: dict, module: str, site: Path, patch: pytest.MonkeyPatch) -> None:
    """Install a plugin as a distribution: its module and the metadata that its entry points are found by."""
    [(entry, name)] = project["project"]["entry-points"]["dja_photplug"].items()
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[dja_photplug]\n{entry} = {name}\n")
    (site / f"{name}.py").write_text(module)
    patch.syspath_prepend(site)
    patch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


class Reader:
    """Runs pages from top to bottom in the working directory, as a reader would.

    The archive's server is one of this machine. Plugins are installed where the page shows their entry point, from its
    Python blocks that use ``hookimpl``.
    """

    def __init__(self, archive: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.archive, self.folder, self.patch = archive, folder, patch
        self.namespace = ModuleType("page")
        patch.chdir(folder)
        patch.setenv(URL_VARIABLE, archive)
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        # Results do not depend on the number of processes, and each takes seconds to start.
        patch.setattr(os, "cpu_count", lambda: 1)

    def __call__(self, page: Path, most: int | None = None) -> list[tuple[str, str]]:
        """Return what each block of text shows and what was printed before it, with `most` no further than so many.

        Blocks that need other programs are left out.
        """
        printed, outputs, plugin = "", [], ""
        for block in pages.read_blocks(page):
            if block.needs:
                continue
            if block.language == "text":
                outputs.append((block.text, printed))
                if len(outputs) == most:
                    break
            elif block.language == "toml":
                self.keep(block.text, plugin)
            else:
                printed = self.run(block, page)
                plugin += block.text if block.language == "python" and "hookimpl" in block.text else ""
        return outputs

    def run(self, block: Any, page: Path) -> str:
        block = replace(block, text=block.text.replace(ARCHIVE_URL, self.archive))
        return pages.run_block(block, page, self.namespace)

    def keep(self, text: str, plugin: str) -> None:
        """Do with a TOML file what the page says of it."""
        if "entry-points" in text:
            install(tomllib.loads(text), plugin, self.folder / "site", self.patch)
        elif "[fields." in text:
            Path("fields.toml").write_text(text)
        else:
            Path("options.toml").write_text(text)
            stages = plugin_stages(dp.get_plugin_manager())
            assert collect_options({}, Path("options.toml"), plugins=stages) != collect_options({}, plugins=stages)


@pytest.fixture(scope="module")
def read_page(archive: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Reader]]:
    """Return a reader in a new folder, where ``data`` is a link to the given one."""
    # DJA_PHOTPLUG_TRACE gives the logger a handler on the stderr of its time.
    logger = logging.getLogger("dja_photplug.plugins.manager")
    with ExitStack() as stack:

        def start(data: Path) -> Reader:
            stack.close()  # the working directory and environment of the one before
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            folder = tmp_path_factory.mktemp("page")
            (folder / "data").symlink_to(data)
            return Reader(archive, folder, patch)

        yield start
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in BY_THEMSELVES], ids=lambda page: page.name)
def test_commands_and_python_of_page_run(
    page: Path, simulated: Path, read_page: Callable[[Path], Reader], monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    if not slow:
        monkeypatch.setattr(demonstration, "SCENE", SceneOptions(shape=(360, 360), n_sources=30, isolated=True))
    reader = read_page(simulated)
    reader(page)
    if page == README:
        assert list(Path("dja-photplug-demo").glob("*_cat.fits"))
        assert main(["plugins"]) == 0


@pytest.mark.parametrize(("page", "count"), [("start.md", 3), ("bands.md", 1), ("extend.md", 1)])
def test_pages_print_what_they_show(page: str, count: int, data: Path, read_page: Callable[[Path], Reader]) -> None:
    outputs = read_page(data / "uds")(ROOT / "docs" / page, count)
    assert len(outputs) == count
    for shown, printed in outputs:
        assert printed.split() == shown.split()


@pytest.fixture(scope="module")
def handed_over(simulated: Path, read_page: Callable[[Path], Reader]) -> Reader:
    """What the page about other programs makes for them."""
    reader = read_page(simulated)
    reader(HANDOVERS)
    write_eazy_inputs(Path())
    return reader


@pytest.mark.filterwarnings("ignore")  # the programs' own
@pytest.mark.parametrize("program", PROGRAMS)
def test_program_takes_what_is_handed_over(program: str, handed_over: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(handed_over.folder)
    [block] = [block for block in pages.read_blocks(HANDOVERS) if block.needs == program]
    if block.language == "python":
        pytest.importorskip(program, reason=f"needs {program}: pip install 'dja_photplug[fitters,viewers]'")
    elif shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    handed_over.run(block, HANDOVERS)
    expect_taken(program, vars(handed_over.namespace))


def test_every_program_of_a_page_is_tried() -> None:
    needed = {(page, block.needs) for page in PAGES for block in pages.read_blocks(page) if block.needs}
    names = [program if isinstance(program, str) else program.values[0] for program in PROGRAMS]
    assert needed == {(HANDOVERS, name) for name in names}


@pytest.mark.slow  # the build of the documentation runs it too
def test_tutorial_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = list(pages.run_tutorial())
    assert len(outputs) == 5
    assert [pair for pair in outputs if not pages.same(*pair)] == []


def test_pages_show_commands_of_every_kind() -> None:
    shown = {
        arguments[0] for page in PAGES for block in pages.read_blocks(page) if block.language == "bash"
        for _, arguments in pages.read_commands(block.text)
    }  # fmt: skip
    # `depth` is the command of the plugin on the hooks page.
    assert shown == set(load_script("tables").commands()) - {"shared"} | {"depth"}


def test_examples_of_the_help_stand_where_they_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = "\n".join(block.text for page in PAGES for block in pages.read_blocks(page) if block.language == "bash")
    run = [words for _, words in pages.read_commands(blocks)]
    for name, example in EXAMPLES.items():
        [(_, words)] = pages.read_commands(example)
        assert words in run, example
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert f"example:\n  {example}" in capsys.readouterr().out
    assert sorted(EXAMPLES) == sorted(
        re.findall(r"^## ([a-z]+)$", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE)
    )


def test_hooks_page_shows_every_hook_with_its_signature() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text()
    shown = {}
    for heading, signature in re.findall(r"^## (photplug_\w+)\n\n```py\n(def .*?)```", page, re.MULTILINE | re.DOTALL):
        shown[heading] = re.sub(r",(?=\))", "", re.sub(r"\s+", "", signature))
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("photplug_")}
    # Annotations are text, which inspect puts in quotes.
    expected = {name: f"def{name}{str(inspect.signature(hook)).replace(chr(39), '')}" for name, hook in hooks.items()}
    assert shown == {name: re.sub(r"\s+", "", text) for name, text in expected.items()}
    listed = re.findall(r"^\| \[`(photplug_\w+)`\].*\| (first result|all)", page, re.MULTILINE)
    assert dict(listed) == {
        name: "first result" if hook.dja_photplug_spec["firstresult"] else "all" for name, hook in hooks.items()
    }


def test_every_hook_has_an_example_that_runs() -> None:
    examples = "".join(
        block.text for block in pages.read_blocks(ROOT / "docs" / "hooks.md") if block.language == "python"
    )
    implemented = re.findall(r"^@hookimpl\ndef (photplug_\w+)", examples, re.MULTILINE)
    assert sorted(implemented) == sorted(name for name in vars(hookspecs) if name.startswith("photplug_"))


def imported_names(text: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of all that is imported from this package."""
    for module, many, few in re.findall(r"^ *from (dja_photplug\S*) import (?:\(([^)]*)\)|(.*))$", text, re.MULTILINE):
        for name in re.findall(r"\w+(?: as \w+)?", many or few):
            yield module, name.partition(" as ")[0]
    for module in re.findall(r"^ *import (dja_photplug[\w.]*)", text, re.MULTILINE):
        yield module, "__name__"


@pytest.mark.parametrize("page", ["docs/hooks.md", "docs/howto-plugin.md"])
def test_plugins_import_from_the_front_door(page: str) -> None:
    imported = set(imported_names((ROOT / page).read_text()))
    assert ("dja_photplug.plugin", "hookimpl") in imported
    assert {module for module, _ in imported} <= {"dja_photplug", "dja_photplug.plugin", "dja_photplug.testing"}
    assert [(module, name) for module, name in imported if not hasattr(importlib.import_module(module), name)] == []


def test_hooks_page_names_no_other_module() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text()
    named = set(re.findall(r"dja_photplug\.(\w+)", page)) - set(dp.__all__)
    assert named <= {"plugin", "testing"}


def test_hooks_page_names_all_that_plugins_import() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text()
    assert [name for name in front_door.__all__ if not re.search(rf"\b{name}\b", page)] == []


def test_tables_are_those_of_the_code() -> None:
    tables = load_script("tables")
    text = "".join(page.read_text() for page in PAGES)
    # Each table has one place; `python docs/scripts/tables.py` puts it there.
    assert sorted(re.findall(r"<!-- table: (.+?) -->", text)) == sorted(tables.tables())
    assert tables.update(text) == text


def test_help_page_is_what_the_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "scripts")
    # `python docs/scripts/help.py` makes it anew.
    page = load_script("help").make()
    assert (ROOT / "docs" / "help.md").read_text() == page
    assert all(
        len(line) <= 80 for block in pages.read_blocks(ROOT / "docs" / "help.md") for line in block.text.splitlines()
    )


def test_detector_gains_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "noise.md").read_text()
    shown = {name: float(gain) for name, gain in re.findall(r"\b(NRC[AB]\w+|NIS|MIRIMAGE) \| ([\d.]+)", page)}
    aliases = {"NRCA5", "NRCB5"}  # other names of NRCALONG and NRCBLONG
    assert shown == {name: gain for name, gain in DETECTOR_GAINS.items() if name not in aliases}


def test_script_compares_a_field_with_the_light_of_each_source_alone(tmp_path: Path) -> None:
    script = load_script("field_truth")
    quiet = {"depths": (1.0,), "sky_level": 0.0, "sky_scatter": 0.0, "density": 100.0}
    field = simulate_field(FieldOptions(shape=(500, 500), sigma=0.004, **quiet))
    result = dp.run([write_field(field, tmp_path, "sim-v1")], dp.Options(measure=AS_IS))
    measured = script.compare(result, field)
    assert list(measured) == ["aper_0", "aper_1", "aper_2", "aper_3", "auto"]
    rows = script.match(result.catalog, field)
    true = field.sources["flux"].value[rows[rows >= 0]]
    np.testing.assert_array_equal(measured["aper_1"].total, true)
    for part in measured.values():
        assert np.all(part.own < part.total)
        clean = ~part.neighbour & (part.total > 0.1)
        # Ten times as deep as it needs to be: what is measured is the light, but for sources that were not found.
        assert np.median(np.abs(part.flux / part.own - 1)[clean]) < 0.03
        # Nothing is masked there, and nothing taken off: all of the own light is there, to rounding.
        assert np.max(np.abs(part.bias[clean])) < 1e-4
    assert np.all(measured["aper_0"].own < measured["aper_3"].own)
    assert np.mean(measured["aper_3"].neighbour) >= np.mean(measured["aper_0"].neighbour)


def test_metadata_of_a_catalogue_are_listed(simulated: Path) -> None:
    page = (ROOT / "docs" / "conventions.md").read_text()
    listed = set(re.findall(r"^\| `([A-Z_i]+)` \|", page, re.MULTILINE))
    rescaled = dp.BackgroundOptions(rescale_weights="yes")
    options = dp.Options(background=rescaled, bands=dp.BandOptions(detect="f444w"))
    mosaics = [simulated / f"uds-test-v7.4-{band}-clear" for band in ("f444w", "f115w")]
    found = {re.sub(r"\d+$", "i", key) for key in dp.run(mosaics, options).catalog.meta}
    # With a `_var` file, without a background weight, with depth zones or odd pixels, where not all was done as asked.
    notes = {"AR_NOTE", "PROFNOTE", "SKYNOTE"}
    assert listed - {"NNEGWHT", "NNOTFIN", "VARFILE", "BACKWHT", "AR_EDGES"} - notes == found - notes


def test_api_page_lists_every_public_name() -> None:
    shown = re.findall(r"^\.\. auto\w+:: dja_photplug\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(set(dp.__all__) - {"__version__"})


@pytest.fixture
def conf() -> ModuleType:
    """Return docs/conf.py."""
    pytest.importorskip("sphinx", reason="the documentation is built with sphinx")
    spec = spec_from_file_location("conf", ROOT / "docs" / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_attributes_of_one_line_are_shown_one_by_one(conf: ModuleType) -> None:
    lines = inspect.getdoc(dp.MosaicFiles).splitlines()
    assert "science, weight : Path" in lines
    conf.part_attributes(None, "class", "dja_photplug.MosaicFiles", dp.MosaicFiles, None, lines)
    assert {"science : Path", "weight : Path", "root : str", "filter : str"} <= set(lines)
    assert lines[lines.index("filter : str") + 1] == lines[lines.index("root : str") + 1] != ""
    assert not [line for line in lines if re.match(r"\w+, .* : ", line)]


def test_signatures_on_the_api_page_are_short(conf: ModuleType) -> None:
    """Groups of options without what they hold; the defaults of functions as they are written."""
    whole = str(inspect.signature(dp.Options))
    short, returned = conf.shorten_signature(None, "class", "dja_photplug.Options", dp.Options, None, whole, None)
    assert "n_sigma" in whole
    assert "n_sigma" not in short
    assert "measure: " in short
    assert returned is None
    assert conf.autodoc_preserve_defaults
    assert len(short) < 1200


def test_house_page_shows_the_wings_that_are_enforced() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [layers] = [rule["layers"] for rule in config["tool"]["importlinter"]["contracts"] if "containers" in rule]
    page = (ROOT / "docs" / "house.md").read_text()
    table = re.search(r"^\| line \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    assert table
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", table.group(), re.MULTILINE)]
    assert [sorted(row) for row in rows] == [sorted(re.findall(r"\w+", line)) for line in layers]


def test_house_page_names_files_that_are_there() -> None:
    page = (ROOT / "docs" / "house.md").read_text()
    named = re.findall(r"`((?:\w+/)+\w*(?:\.\w+)?|\w+\.py)`", page)
    assert len(named) > 10
    places = (ROOT, ROOT / "dja_photplug", ROOT / "tests")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_code_fits_the_column() -> None:
    """A page of 1280 pixels shows 103 characters; messages and what is printed may be longer, and are broken."""
    shown = [page for page in PAGES if page != README]
    blocks = [(page, block) for page in shown for block in pages.read_blocks(page) if block.language != "text"]
    lines = [(page.name, line) for page, block in blocks for line in block.text.splitlines()]
    assert len(lines) > 1000
    assert [each for each in lines if len(each[1]) > 100] == []


def test_index_has_a_question_for_every_page() -> None:
    text = (ROOT / "docs" / "index.md").read_text()
    listed = re.findall(r"^\| \[.+\]\((\S+)\.md\) \| .+\? \|$", text, re.MULTILINE)
    tree = [
        name
        for part in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.M | re.S)
        for name in part.split("\n\n")[1].split()
    ]
    assert listed == tree
    assert sorted(tree) == sorted(page.stem for page in PAGES if page not in (README, ROOT / "docs" / "index.md"))
    assert f"Version {dp.__version__}." in text


def test_pages_have_the_names_that_the_index_gives_them() -> None:
    """The sidebar shows the first heading of a page, the index another name: a reader takes them for two pages."""
    named = re.findall(r"^\| \[(.+?)\]\((\S+\.md)\) \|", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    heads = [((ROOT / "docs" / page).read_text().splitlines()[0], page) for _, page in named]
    assert heads == [(f"# {name}", page) for name, page in named]


def test_tables_have_a_head() -> None:
    """One without words is drawn as a thin line."""
    pages_without = [page.name for page in PAGES if re.search(r"^\|[ |]+\|\n\| ---", page.read_text(), re.MULTILINE)]
    assert pages_without == []


def read_section(link: str) -> str:
    """Return a page, from the heading that a link leads to up to the next one."""
    name, _, anchor = link.partition("#")
    text = (ROOT / "docs" / name).read_text()
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in parts[1::2]]
    return parts[2 * slugs.index(anchor) + 2] if anchor else text


def test_numbers_to_believe_stand_where_they_are_shown() -> None:
    rows = re.findall(r"^\| (.+) \| \[[^]]+\]\((\S+)\) \|$", (ROOT / "docs" / "believe.md").read_text(), re.MULTILINE)
    shown = 0
    for row, link in rows:
        section = read_section(link)
        numbers = re.findall(r"(?<![\d.])[-+]?\d+\.\d\d(?![\d\"])", row)
        assert [number for number in numbers if number not in section] == [], row
        shown += len(numbers)
    assert shown > 20


def test_gallery_shows_every_figure_and_the_function_that_draws_it() -> None:
    text = (ROOT / "docs" / "gallery.md").read_text()
    shown = re.findall(r"\]\(images/(\S+)\)", text)
    assert sorted(shown) == sorted(path.name for path in (ROOT / "docs" / "images").iterdir())
    named = re.findall(r"`(dja_photplug[\w.]*)\.(\w+)`", text)
    assert len(named) > 6
    assert [name for module, name in named if not callable(getattr(importlib.import_module(module), name))] == []


def test_environment_for_conda_is_that_of_the_package() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*config["dependencies"], *config["optional-dependencies"]["plot"]]
    declared.append(f"python{config['requires-python']}")
    text = (ROOT / "environment.yml").read_text()
    listed = re.findall(r"^  - (\S+>=\S+)$", text, re.MULTILINE)
    assert len(listed) > 5
    assert [each for each in listed if each not in declared] == []
    assert re.findall(r"^      - \.\[(\S+)\]$", text, re.MULTILINE) == ["demo,remote"]


def list_headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To files and to headings; the build of the documentation looks at those from page to page too."""
    wrong = []
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in list_headings(target)):
            wrong.append(link)
    assert wrong == []


def test_scripts_that_pages_run_are_there() -> None:
    """What takes minutes is not run; it is there, and takes the flags that stand behind it."""
    lines = [
        line
        for page in PAGES
        for block in pages.read_blocks(page)
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    found = re.findall(r"\bpython ((?:docs|benchmarks)\S+\.py)([^\n]*)", "\n".join(lines))
    assert len(found) > 10
    for name, arguments in found:
        text = (ROOT / name).read_text()
        assert [flag for flag in re.findall(r"--[a-z][\w-]+", arguments) if flag not in text] == [], name


def test_ci_runs_the_test_command_of_readme() -> None:
    readme = README.read_text()
    assert readme.count("<!-- test command -->") == 1
    extraction = re.search(r"^test_command=.*$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert extraction
    script = f'{extraction.group()}\nprintf "%s\\n" "$test_command"'
    extracted = subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    blocks = [block.text for block in pages.read_blocks(README) if block.language == "bash"]
    [command] = [text for text in blocks if "pytest" in text]
    assert extracted == command
    assert command.count(".venv-test") == 3  # .ci/run goes on with this environment


def test_colours_of_point_sources_are_those_of_the_psfs(data: Path) -> None:
    page = (ROOT / "docs" / "bands.md").read_text()
    psfs = [read_psf(data / "uds" / f"psf-ceers-{name}.fits") for name in ("nrca3-f115w", "nrca5-f444w")]
    short, long = (encircled_energy(psf, [0.18, 0.25, 0.35, 0.5]) for psf in psfs)
    kron = np.divide(*(encircled_energy(psf, 0.35) for psf in psfs))
    for column, ratio in (("corr_i", short / long), ("tot_i", short / long / kron)):
        [row] = re.findall(rf"^\| `{column}`, .*%", page, re.MULTILINE)
        np.testing.assert_array_equal([int(text) for text in re.findall(r"(\d+) %", row)], np.round(100 * (ratio - 1)))


def test_script_compares_limits_of_few_with_those_of_many() -> None:
    """By hand: one limit of 28 mag; three of the few are 0.5, 1 and 2 errors off, one is not known."""
    names = {"sources": ["all"], "zone": [0], "level": [0.5]}
    tables = [
        QTable(names | {"mag": [mag] * u.mag, "mag_err": [error] * u.mag})
        for mag, error in ((28.0, 0.01), (28.1, 0.2), (28.1, 0.1), (27.8, 0.1), (np.nan, np.nan))
    ]
    [row] = load_script("compare_limits").compare(tables[0], tables[1:])
    scatter = f"{np.std([0.5, 1, -2]):.2f}"
    assert row == ("all", "all", "50 %", "28.000 ± 0.010", "3 of 4", "0.100", scatter, "+0.50", "2 of 3")


def test_ten_bands_show_one_field(tmp_path: Path) -> None:
    """Each has its mosaic and log; stars of 2800 to 6500 K are brightest at 0.8 to 1.8 um, by Wien's law of F_nu."""
    script = load_script("ten_bands")
    prefixes = script.simulate(tmp_path, 120)
    assert len(prefixes) == 10
    for prefix in prefixes:
        log = dp.read_exposure_log(f"{prefix}_wcs.csv")
        assert len(log) == 8
        assert dp.load_mosaic(prefix).data.shape == (120, 120)
    sources = simulate_field(FieldOptions(shape=(200, 200), density=900)).sources
    share = script.draw_spectra(sources, 4)
    np.testing.assert_array_equal(share("f444w"), 1)
    assert np.all(share("f150w")[sources["star"]] > 1)
    assert np.all(share("f090w") > 0)


@pytest.mark.parametrize(("name", "page"), [("error_ratio", "noise.md"), ("empty_apertures", "errors.md")])
def test_numbers_of_page_are_those_of_its_script(name: str, page: str, data: Path) -> None:
    page = (ROOT / "docs" / page).read_text()
    shown = re.search(rf"<!-- output: {name} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert shown
    script = load_script(name)
    made = (
        script.format_table(script.measure_ratios(data / script.MOSAIC))
        if name == "error_ratio"
        else script.format_table(script.measure_all(data))
    )
    number = r"(?<=\| )\d+(?:\.\d+)?(?= \|)"
    expected, measured = (np.array(re.findall(number, text), float) for text in (shown[1], made))
    assert re.sub(number, "", made) == re.sub(number, "", shown[1]).strip()
    # Two digits are printed; another version of sep or numpy may move the last one.
    np.testing.assert_allclose(measured, expected, rtol=0, atol=0.02)
