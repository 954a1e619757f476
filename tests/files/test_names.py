"""The grammar of DJA's file names, and the files of a mosaic on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dja_photplug.errors import PhotplugError
from dja_photplug.files.names import MosaicFiles, ProductName, band_name, find_mosaic, is_mosaic_name
from tests.helpers import uds_prefix

NAME = "gds-grizli-v7.2-f444w-clear"
Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Give a folder with empty files of the named mosaic (names alone decide)."""

    def make(*members: str, mosaic: str = NAME) -> Path:
        for member in members:
            (tmp_path / f"{mosaic}_{member}").touch()
        return tmp_path

    return make


def test_the_real_names_are_rebuilt_or_declined(data: Path) -> None:
    names = (data / "dja_v7_names_sample.txt").read_text().split()
    parsed = {name: ProductName.parse(name) for name in names}
    assert len(names) == 1311
    products = {name: parts for name, parts in parsed.items() if parts}
    assert len(products) == 1247
    assert [name for name, parts in products.items() if str(parts) != name] == []
    # An independent word for what a product is: how its name ends.
    endings = tuple(
        f"_{d}_{k}.fits{gz}" for d in ("drc", "drz") for k in ("sci", "wht", "exp", "var") for gz in ("", ".gz")
    )
    assert set(products) == {name for name in names if name.endswith((*endings, "_wcs.csv"))}
    # No release's root ends in a part of a filter, and every root ends in its version.
    assert [parts.root for parts in products.values() if not parts.root.rpartition("-")[2].startswith("v7.")] == []


FILTERS = {
    "f444w-clear": "f444w",
    "f115wn-clear": "f115wn",
    "clearp-f356w": "f356wn",
    "f200w-gr150c": "f200w_gr150c",
    "f444w-grismr": "f444w_grismr",
    "f150w2-f162m": "f150w2_f162m",
    "f150w2-clear": "f150w2",
    "f444w-f470n": "f444w_f470n",
    "f814w": "f814w",
    "f850lp": "f850lp",
    "f160w": "f160w",
    "f606wu": "f606wu",
    "f350lpu": "f350lpu",
    "f770w": "f770w",
    "f1000w": "f1000w",
    "nrca-f250m-clear": "nrca_f250m",
    "ir": "ir",
}
ROOTS = (
    "gds-grizli-v7.2",
    "ceers-full-x0.y0-v7.2",
    "cos-infty-v7.4",
    "gdn-grizli-fresco-v7.3",
    "spitzer_idf-grizli-v7.4",
)
MEMBERS = [f"{d}_{k}.fits{gz}" for d in ("drc", "drz") for k in ("sci", "wht", "exp", "var") for gz in ("", ".gz")]


@pytest.mark.parametrize("filter", FILTERS)
def test_every_spelling_of_a_filter_is_split_from_every_root(filter: str) -> None:
    for root in ROOTS:
        for member in [*MEMBERS, "wcs.csv"]:
            name = ProductName.parse(f"{root}-{filter}_{member}")
            assert name is not None
            assert (name.root, name.filter, str(name)) == (root, filter, f"{root}-{filter}_{member}")
            assert (name.mosaic, name.band) == (f"{root}-{filter}", FILTERS[filter])
    log = ProductName.parse(f"gds-{filter}_wcs.csv")
    assert log is not None
    assert (log.kind, log.drizzle, log.suffix) == ("wcs", "", ".csv")


@pytest.mark.parametrize(
    "name",
    [
        "gds-grizli-v7.2-ir_seg.fits.gz",
        "gds-grizli-v7.2-ir.cat.fits",
        "gds-grizli-v7.2-fix_phot_apcorr.fits",
        "gds-grizli-v7.2-f444w-clear_drc_sci.fits.fz",
        "gds-grizli-v7.2-f444w-clear_sci.fits",
        "gds-grizli-v7.2-f444w-clear_drc_wcs.csv",
        "gds-grizli-v7.2-f444w-clear_wcs.csv.gz",
        "gds-grizli-v7.2-f444w-clear_drc_sci.fits\n",
        "gds-grizli-v7.2_drc_sci.fits",
        "-f444w-clear_drc_sci.fits",
        "F444W_drc_sci.fits",
        "",
    ],
)
def test_other_names_are_declined(name: str) -> None:
    assert ProductName.parse(name) is None


def test_band_names_serve_as_columns() -> None:
    assert {filter: band_name(filter) for filter in FILTERS} == FILTERS
    assert all(band.isidentifier() for band in map(band_name, FILTERS))


def test_mosaic_names_are_told_from_other_paths() -> None:
    yes = [NAME, f"a/{NAME}", f"{NAME}_drz", Path(f"{NAME}_drc_exp.fits.gz"), f"{NAME}_wcs.csv"]
    assert all(map(is_mosaic_name, yes))
    files = MosaicFiles(root="a", filter="ir", science=Path("s"), weight=Path("w"))
    assert (files.name, files.band, files.label, files.log) == ("a-ir", "ir", "a-ir", None)
    assert find_mosaic(files) is files
    assert not any(map(is_mosaic_name, ["image.fits", "", "a/b/", f"{NAME}_seg.fits"]))


ALL = ("drc_sci.fits.gz", "drc_wht.fits.gz", "drc_exp.fits.gz", "drc_var.fits.gz", "wcs.csv")


@pytest.mark.parametrize("given", ["", "_", "_drc", "_drc_", *(f"_{member}" for member in ALL)])
@pytest.mark.parametrize("kind", [str, Path])
def test_prefix_and_every_member_find_the_same_files(fill: Fill, given: str, kind: type) -> None:
    folder = fill(*ALL)
    fill("drc_sci.fits.gz", "drc_wht.fits.gz", mosaic="gds-grizli-v7.2-f444w-f470n")
    files = find_mosaic(kind(folder / f"{NAME}{given}"))
    paths = [files.science, files.weight, files.exposure, files.variance, files.wcs_log]
    assert paths == [folder / f"{NAME}_{member}" for member in ALL]
    assert (files.root, files.filter, files.band) == ("gds-grizli-v7.2", "f444w-clear", "f444w")
    assert (files.name, str(files)) == (NAME, str(folder / NAME))


def test_what_does_not_exist_is_none(fill: Fill) -> None:
    files = find_mosaic(fill("drc_sci.fits", "drc_wht.fits.gz", mosaic="gds-v7-ir") / "gds-v7-ir")
    assert (files.exposure, files.variance, files.wcs_log) == (None, None, None)
    assert (files.science.name, files.weight.name) == ("gds-v7-ir_drc_sci.fits", "gds-v7-ir_drc_wht.fits.gz")


def test_relative_paths(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(*ALL)
    monkeypatch.chdir(folder)
    assert find_mosaic(NAME).science == Path(f"{NAME}_drc_sci.fits.gz")
    assert find_mosaic(f"./{NAME}_wcs.csv").weight == Path(f"{NAME}_drc_wht.fits.gz")
    assert find_mosaic(f"../{folder.name}/{NAME}").science == Path(f"../{folder.name}/{NAME}_drc_sci.fits.gz")


@pytest.mark.parametrize(
    ("given", "science"),
    [
        ("", "drc_sci.fits"),
        ("_wcs.csv", "drc_sci.fits"),
        ("_drz", "drz_sci.fits"),
        ("_drc_sci.fits", "drc_sci.fits"),
        ("_drc_sci.fits.gz", "drc_sci.fits.gz"),
        ("_drc_wht.fits.gz", "drc_sci.fits.gz"),
        ("_drz_wht.fits.gz", "drz_sci.fits.gz"),
        ("_drz_exp.fits.gz", "drz_sci.fits.gz"),
    ],
)
def test_a_member_decides_where_both_are_there(fill: Fill, given: str, science: str) -> None:
    kinds = [f"{d}_{k}.fits{gz}" for d in ("drc", "drz") for k in ("sci", "wht", "exp") for gz in ("", ".gz")]
    files = find_mosaic(fill(*kinds, "wcs.csv") / f"{NAME}{given}")
    assert files.science.name == f"{NAME}_{science}"
    assert files.weight.name == f"{NAME}_{science}".replace("sci", "wht")
    assert files.exposure is not None
    assert files.exposure.name == f"{NAME}_{science}".replace("sci", "exp")


def test_a_prefix_takes_the_drizzle_that_is_complete(fill: Fill) -> None:
    folder = fill("drc_exp.fits", "drc_sci.fits", "drz_sci.fits.gz", "drz_wht.fits.gz")
    files = find_mosaic(folder / NAME)
    assert files.science.name == f"{NAME}_drz_sci.fits.gz"
    assert files.exposure is None


@pytest.mark.parametrize(
    ("there", "given", "missing", "not_missing"),
    [
        (["drc_sci.fits", "wcs.csv"], "", ["drc_wht"], ["drc_sci.fits[.gz]"]),
        (["drc_wht.fits.gz"], "_drc_wht.fits.gz", ["drc_sci"], ["drc_wht.fits[.gz]"]),
        (["wcs.csv"], "", ["drc_sci", "drc_wht"], []),
        (["wcs.csv"], "_drz", ["drz_sci", "drz_wht"], ["drc"]),
        (["drz_exp.fits"], "", ["drz_sci", "drz_wht"], ["drc"]),
        (["drc_sci.fits", "drc_wht.fits", "drz_sci.fits"], "_drz_sci.fits", ["drz_wht"], ["drc"]),
    ],
)
def test_missing_members_are_told_each_by_name(
    fill: Fill, there: list[str], given: str, missing: list[str], not_missing: list[str]
) -> None:
    folder = fill(*there)
    with pytest.raises(PhotplugError) as caught:
        find_mosaic(folder / f"{NAME}{given}")
    message = str(caught.value)
    assert message.startswith(f"{folder / NAME}: ")
    assert all(f"{NAME}_{member}.fits[.gz]" in message for member in missing)
    assert not any(part in message for part in not_missing)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("gds-grizli-v7.2-f444w", ["no such mosaic", NAME]),
        ("gds-grizli-v7.2-f115w-clear", ["no such mosaic", NAME]),
        (f"{NAME}_drz", ["no such mosaic", NAME]),
        ("gds-grizli-v7.2", ["not the name of a DJA mosaic", NAME]),
        (f"{NAME}_drc_sci.fits", ["no such file", f"{NAME}_drc_sci.fits.gz"]),
        (f"{NAME}_drc_exp.fits.gz", ["no such file", f"{NAME}_drc_sci.fits.gz"]),
        ("", ["not the name of a DJA mosaic", NAME, "prefix"]),
        (f"nowhere/{NAME}", ["no such mosaic", "nowhere does not exist"]),
        (f"nowhere/{NAME}_drc_sci.fits", ["no such file", "nowhere does not exist"]),
    ],
)
def test_a_wrong_name_is_answered_with_what_is_there(fill: Fill, given: str, parts: list[str]) -> None:
    folder = fill("drc_sci.fits.gz", "drc_wht.fits.gz")
    with pytest.raises(PhotplugError) as caught:
        find_mosaic(folder / given)
    assert str(caught.value).startswith(f"{folder / given}: ")
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


def test_a_full_folder_is_not_listed_whole(fill: Fill) -> None:
    for number in range(30):
        folder = fill("drc_sci.fits", mosaic=f"field{number:02d}-v7.0-f444w-clear")
    with pytest.raises(PhotplugError, match=r"holds field\S+, field\S+, field\S+ and others$"):
        find_mosaic(folder / "field99-v7.0-f444w-clear")


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(PhotplugError, match="holds no DJA products"):
        find_mosaic(tmp_path / NAME)


def test_a_folder_named_like_a_member_is_none(fill: Fill) -> None:
    folder = fill("drc_wht.fits")
    (folder / f"{NAME}_drc_sci.fits").mkdir()
    with pytest.raises(PhotplugError, match=r"_drc_sci\.fits\[\.gz\] missing"):
        find_mosaic(folder / NAME)


def test_the_real_folder(data: Path) -> None:
    files = find_mosaic(uds_prefix(data, "f115w"))
    assert files.exposure is not None
    assert files.wcs_log is not None
    assert files.variance is None
    assert find_mosaic(files.wcs_log) == find_mosaic(files.exposure) == files
