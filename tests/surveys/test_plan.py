"""The list of a survey: which bands a field has, and which options hold for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import dja_photplug as dp
from dja_photplug.plugin import Source, hookimpl
from dja_photplug.surveys.plan import Field, make_fields, read_fields
from tests.helpers import write_psf


def read(place: Path, text: str, **given: object) -> dict[str, Field]:
    (place / "fields.toml").write_text(text)
    return {field.name: field for field in read_fields(Path("fields.toml"), dp.get_plugin_manager(), **given)}


def test_bands_of_lists_and_patterns(place: Path) -> None:
    shutil.copy("data/two-v1-f444w-clear_drc_sci.fits", "data/two-v1-f1000w-clear_drc_sci.fits")
    shutil.copy("data/two-v1-f444w-clear_drc_wht.fits", "data/two-v1-f1000w-clear_drc_wht.fits")
    fields = read(
        place,
        """
        [fields.listed]
        bands = ["data/two-v1-f444w-clear", "data/two-v1-f115w-clear_drc_wht.fits"]
        [fields.science]
        pattern = "data/two-*_sci.fits*"
        [fields.members]
        pattern = "da*/two-*"
        [fields.several]
        pattern = ["data/two-v1-f444w*_sci.fits", "data/two-v1-f444w*", "data/two-v1-f1*_drc_sci.fits"]
        [fields.both]
        bands = ["data/one-v1-f444w-clear"]
        pattern = "data/two-v1-f115w*"
        """,
    )
    found = {name: [source.band for source in field.sources] for name, field in fields.items()}
    every = ["f115w", "f444w", "f1000w"]  # by their numbers
    assert found == {
        "listed": ["f444w", "f115w"],
        "science": every,
        "members": every,
        "several": ["f444w", "f115w", "f1000w"],
        "both": ["f444w", "f115w"],
    }


def test_a_pattern_says_which_files(place: Path) -> None:
    """A member that is matched alone is the one; of several a prefix chooses, as ever."""
    for kind in ("sci", "wht"):
        shutil.copy(f"data/one-v1-f444w-clear_drc_{kind}.fits", f"data/one-v1-f444w-clear_drz_{kind}.fits")
    (place / "data" / "one-v1-f444w-clear_wcs.csv").touch()
    fields = read(
        place,
        """
        [fields.drc]
        pattern = "data/one-v1-*_drc_*"
        [fields.drz]
        pattern = "data/one-v1-*_drz_sci.fits"
        [fields.log]
        pattern = "data/one-v1-*_wcs.csv"
        """,
    )
    names = {name: field.sources[0].science.name for name, field in fields.items()}
    drc, drz = (f"one-v1-f444w-clear_{drizzle}_sci.fits" for drizzle in ("drc", "drz"))
    assert names == {"drc": drc, "drz": drz, "log": drc}


def test_a_stack_is_for_detection(place: Path) -> None:
    for kind in ("sci", "wht"):
        shutil.copy(f"data/two-v1-f444w-clear_drc_{kind}.fits", f"data/two-v1-ir_drc_{kind}.fits")
    fields = read(place, '[fields.two]\npattern = "data/two-v1-*_sci.fits"\n')
    assert [source.band for source in fields["two"].sources] == ["f115w", "f444w", "ir"]
    named = read(
        place, '[options.bands]\ndetect = "ir"\n[fields.two]\nbands = ["data/two-v1-f444w-clear"]\n'
    )  # not measured, but read
    assert [image.band for image in named["two"].images] == ["f444w", "ir"]


def test_who_wins(place: Path) -> None:
    Path("mine.toml").write_text("[detect]\nn_sigma = 1.1\nn_pixels = 11\nkernel = 1.0\nclean = 0.1\n")
    text = """
    [options]
    engine = "photutils"
    [options.detect]
    n_sigma = 2.2
    n_pixels = 22
    kernel = 2.0
    [fields.one]
    bands = ["data/one-v1-f444w-clear"]
    [fields.one.options.detect]
    n_sigma = 3.3
    n_pixels = 33
    [fields.three]
    bands = ["data/three-v1-f444w-clear"]
    """
    fields = read(place, text, flags={"detect.n_sigma": 4.4, "quiet": True}, config=Path("mine.toml"))
    one, three = (fields[name].options for name in ("one", "three"))
    assert (one.engine, three.engine) == ("photutils", "photutils")
    assert (one.detect.n_sigma, three.detect.n_sigma) == (4.4, 4.4)
    assert (one.detect.n_pixels, three.detect.n_pixels) == (33, 22)
    assert (one.detect.kernel, one.detect.clean, one.detect.contrast) == (2.0, 0.1, 0.001)
    assert one.measure.background == "mesh"  # nothing is left open


def test_values_of_bands_are_for_fields_that_have_them(place: Path) -> None:
    write_psf(place / "data" / "psf.fits", 1.5, 31)
    text = """
    [options.bands]
    psf = { f444w = "data/psf.fits", f115w = "data/psf.fits" }
    [options.variance]
    detector_gain = { f115w = 2.0 }
    [fields.one]
    bands = ["data/one-v1-f444w-clear"]
    [fields.two]
    pattern = "data/two-v1-*_sci.fits"
    """
    fields = read(place, text)
    assert list(fields["one"].options.bands.psf) == ["f444w"]
    assert list(fields["two"].options.bands.psf) == ["f444w", "f115w"]
    assert fields["one"].options.variance.detector_gain is None
    assert fields["two"].options.variance.detector_gain == {"f115w": 2.0}
    with pytest.raises(dp.PhotplugError, match=r"^option psf: no field has the band f335m; .*f115w, f444w$"):
        read(place, text.replace('f115w = "data', 'f335m = "data'))
    own = text + "[fields.one.options.variance]\ndetector_gain = { f115w = 2.0 }\n"
    with pytest.raises(dp.PhotplugError, match=r"\[fields.one\]: option detector_gain: f115w is not one of the bands"):
        read(place, own)
    # A flag is for all, also where the field has values of its own.
    assert (
        read(place, own, flags={"variance.detector_gain": [("f115w", 3.0)]})["one"].options.variance.detector_gain
        is None
    )


def test_names_of_files_are_relative_to_the_list(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_psf(place / "data" / "psf.fits", 1.5, 31)
    text = '[fields.one]\nbands = ["data/one-v1-f444w-clear"]\n[fields.one.options.bands]\npsf = "data/psf.fits"\n'
    (place / "fields.toml").write_text(text)
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    [field] = read_fields(Path("../fields.toml"), dp.get_plugin_manager())
    assert field.options.bands.psf == {"": "../data/psf.fits"}
    assert str(field.sources[0]) == "../data/one-v1-f444w-clear"


class Finder:
    """A plugin that finds by names which are none of files."""

    @hookimpl
    def photplug_find(self, text):
        return Source(name=text, band="f200w", label=text) if text.startswith("mine:") else None


def test_what_a_plugin_finds_has_no_folder(place: Path) -> None:
    manager = dp.get_plugin_manager()
    manager.register(Finder())
    (place / "sub").mkdir()
    (place / "sub" / "fields.toml").write_text('[fields.a]\nbands = ["mine:a", "../data/one-v1-f444w-clear"]\n')
    [field] = read_fields(Path("sub/fields.toml"), manager)
    assert [str(source) for source in field.sources] == ["mine:a", "sub/../data/one-v1-f444w-clear"]


def test_fields_of_a_mapping(place: Path) -> None:
    options = dp.Options(bands=dp.BandOptions(zero_point={"f115w": 28.0}))
    bands = {
        "one": ["data/one-v1-f444w-clear"],
        "two": [Path(f"data/two-v1-{band}-clear") for band in ("f444w", "f115w")],
    }
    one, two = make_fields(bands, options, dp.get_plugin_manager())
    assert (one.options.bands.zero_point, two.options.bands.zero_point) == ({}, {"f115w": 28.0})
    for wrong, told in (
        ({}, "the survey has no fields"),
        ({"a/b": ["data/one-v1-f444w-clear"]}, "^field 'a/b': its catalogue cannot have this name"),
        ({"a": []}, "^field a: no mosaic given"),
        (
            {"a": ["data/none-v1-f444w-clear"]},
            "^field a: data/none-v1-f444w-clear: no such mosaic; did you mean data/one",
        ),
    ):
        with pytest.raises(dp.PhotplugError, match=told):
            make_fields(wrong, dp.Options(), dp.get_plugin_manager())


def test_two_fields_do_not_write_one_stack(place: Path) -> None:
    """Wherever its folder is named from; before anything is made."""
    (place / "stacks").mkdir()
    (place / "link").symlink_to(place / "stacks")
    fields = """
        [options.bands]
        detect = "stack"
        stack = "stacks"
        [fields.two]
        pattern = "data/two-v1-*_sci.fits"
        [fields.again]
        bands = ["data/two-v1-f444w-clear"]
        options.bands.stack = "link"
        [fields.three]
        bands = ["data/three-v1-f444w-clear"]
    """
    (place / "fields.toml").write_text(fields)
    told = "^link/two-v1-ir_drc_sci.fits.gz: field two and field again would write the same file; name another folder"
    with pytest.raises(dp.PhotplugError, match=told):
        dp.survey("fields.toml", "out")
    assert not (place / "out").exists()
    assert not list((place / "stacks").iterdir())
    (place / "fields.toml").write_text(fields.replace('"link"', '"data"'))
    summary = dp.survey("fields.toml", "out", options=dp.Options(variance=dp.VarianceOptions(noise="dja")))
    assert list(summary["status"]) == ["made"] * 3
