"""One definition of the options for Python, TOML and the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dja_photplug.errors import PhotplugError
from dja_photplug.options.arguments import add_flags, collect_options
from dja_photplug.options.bands import of_band, settle_bands
from dja_photplug.options.declare import Stage, option
from dja_photplug.options.presets import PIXEL_DEFAULTS
from dja_photplug.options.run import STAGES, Options
from dja_photplug.options.stages import (
    BackgroundOptions,
    BandOptions,
    CalibrationOptions,
    DetectOptions,
    EpochOptions,
    MeasureOptions,
    OutputOptions,
    TileOptions,
    VarianceOptions,
    as_variance_options,
)


def test_the_defaults_are_those_of_the_published_catalogues() -> None:
    options = Options()
    assert (options.engine, options.cutout, options.overwrite) == ("sep", None, False)
    assert options.variance == VarianceOptions(noise="calibrated", detector_gain=None, phot_scale=None)
    # Of weights and images: as published. A group that names no preset has that of what it is for.
    assert as_variance_options(VarianceOptions()).noise == PIXEL_DEFAULTS.variance.noise == "dja"
    assert Options(variance=VarianceOptions(phot_scale=0.25)).variance.noise == "calibrated"
    assert replace(PIXEL_DEFAULTS, variance=options.variance) == options
    empty = options.calibration
    assert (empty.radius_min, empty.radius_max, empty.n_radii, empty.n_apertures) == (0.08, 1.5, 12, 4000)
    assert (empty.margin, empty.zones) == (0.2, None)
    detect = options.detect
    assert (detect.noise, detect.n_sigma, detect.n_pixels, detect.kernel) == ("full", 1.5, 9, 3.0)
    assert (detect.filter_type, detect.n_levels, detect.contrast, detect.clean) == ("conv", 32, 0.001, 1.0)
    measure = options.measure
    assert measure.apertures == (0.36, 0.5, 0.7, 1.0)
    assert (measure.kron_factor, measure.kron_min, measure.kron_max, measure.kron_circle) == (2.5, 2.4, 3.8, 0.35)
    assert (measure.background, measure.neighbours) == ("auto", "auto")


def test_options_are_frozen_and_know_their_fields() -> None:
    for thing in (Options(), *(stage() for stage in STAGES.values())):
        name = dataclasses.fields(thing)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, 1)
        with pytest.raises(TypeError):
            type(thing)(no_such_option=1)
        with pytest.raises(TypeError):
            type(thing)(1)
    assert hash(Options()) == hash(Options(detect=DetectOptions()))


def make(stage: type, field: Any, value: Any) -> Any:
    """Return what a stage makes of a value for one field; of a list, of the value and another."""
    if field.metadata["by_band"]:
        return getattr(stage(**{field.name: {"F444W": value}}), field.name)["f444w"]
    other = (field.metadata["choices"] or (9,))[0]
    return getattr(stage(**{field.name: (value, other) if field.metadata["many"] else value}), field.name)


def name(field: Any) -> str:
    """Return what messages call a field; of a mapping, its value for F444W."""
    return f"{field.name} of F444W" if field.metadata["by_band"] else field.name


def select(condition: Callable[[Any], bool]) -> list[Any]:
    """Return stage and field of the options whose metadata fulfil the condition."""
    fields = [(stage, field) for stage in STAGES.values() for field in dataclasses.fields(stage)]
    return [pytest.param(s, f, id=f"{s.__name__}.{f.name}") for s, f in fields if condition(f.metadata)]


@pytest.mark.parametrize(("stage", "field"), select(lambda meta: meta["choices"]))
def test_choices_hold_and_are_told(stage: type, field: Any) -> None:
    choices = field.metadata["choices"]
    made = [make(stage, field, choice) for choice in choices]
    assert [value[0] if field.metadata["many"] else value for value in made] == list(choices)
    with pytest.raises(PhotplugError, match=rf"^option {field.name}: 'x' is not one of {', '.join(choices)}$"):
        make(stage, field, "x")


@pytest.mark.parametrize(("stage", "field"), select(lambda meta: not meta["choices"] and meta["kind"] in (int, float)))
def test_bounds_hold_and_are_told(stage: type, field: Any) -> None:
    meta, kind = field.metadata, field.metadata["kind"]
    step = 1 if kind is int else 1e-6
    assert meta["minimum"] is not None
    for bound, sign, words in ((meta["minimum"], -1, "below its minimum"), (meta["maximum"], 1, "above its maximum")):
        if bound is not None:
            if field.name not in ("kron_max", "radius_max"):  # also bound to kron_min and radius_min
                assert make(stage, field, bound) in (bound, (bound, 9))
            beyond = kind(bound + sign * step)
            with pytest.raises(PhotplugError, match=rf"^option {name(field)}: {beyond} is {words} {bound}") as caught:
                make(stage, field, beyond)
            assert str(caught.value).endswith(f"{bound} {meta['unit']}".rstrip())


@pytest.mark.parametrize(("stage", "field"), select(lambda meta: not meta["choices"]))
@pytest.mark.parametrize("value", [True, None, 1j, object()], ids=lambda value: type(value).__name__)
def test_what_is_of_another_type_is_refused(stage: type, field: Any, value: Any) -> None:
    kind = field.metadata["kind"]
    wrong = ("3" if kind is not str else 3) if value is None else value
    wrong = 1 if wrong is True and kind is bool else wrong
    with pytest.raises(PhotplugError, match=rf"^option {name(field)}: .* is not of type {kind.__name__}$"):
        make(stage, field, wrong)


@pytest.mark.parametrize(("stage", "field"), select(lambda meta: meta["kind"] is float))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_are_finite(stage: type, field: Any, value: float) -> None:
    with pytest.raises(PhotplugError, match=rf"^option {name(field)}: {value} is not a finite number"):
        make(stage, field, value)


@pytest.mark.parametrize(("stage", "field"), select(lambda meta: meta["kind"] is int))
def test_counts_are_whole(stage: type, field: Any) -> None:
    with pytest.raises(PhotplugError, match=rf"^option {field.name}: 3\.0 is not of type int$"):
        make(stage, field, 3.0)


@pytest.mark.parametrize(("stage", "field"), select(lambda meta: not meta["optional"]))
def test_none_is_for_optional_values(stage: type, field: Any) -> None:
    with pytest.raises(PhotplugError, match=f"^option {field.name}: None is not "):
        stage(**{field.name: None})


def test_the_unit_is_told() -> None:
    with pytest.raises(PhotplugError, match=r"^option mesh: 0\.0 is below its minimum 0\.1 arcsec$"):
        BackgroundOptions(mesh=0)
    with pytest.raises(PhotplugError, match=r"^option contrast: 2\.0 is above its maximum 1$"):
        DetectOptions(contrast=2)


def test_numbers_of_every_kind_become_plain() -> None:
    detect = DetectOptions(n_sigma=3, n_pixels=np.int64(5), kernel=np.float32(2.5), noise=np.str_("full"))
    assert [type(value) for value in (detect.n_sigma, detect.n_pixels, detect.kernel, detect.noise)] == [
        float,
        int,
        float,
        str,
    ]
    assert detect.kernel == 2.5
    measure = MeasureOptions(apertures=np.array([0.5, 1], np.float32), annulus=[1, 2])
    assert (measure.apertures, measure.annulus) == ((0.5, 1.0), (1.0, 2.0))
    assert {type(value) for value in measure.apertures} == {float}


@pytest.mark.parametrize("value", [0.5, "0.5", None, [], ()])
def test_lists_are_lists(value: Any) -> None:
    with pytest.raises(PhotplugError, match=r"option apertures: .*(is not a list; give several|the list is empty)"):
        MeasureOptions(apertures=value)


@pytest.mark.parametrize("annulus", [(2, 1), (1, 1), (1,), (1, 2, 3)])
def test_pairs_are_ordered(annulus: Any) -> None:
    with pytest.raises(
        PhotplugError, match="option annulus: .* is not an inner and a larger outer radius; give two radii in order"
    ):
        MeasureOptions(annulus=annulus)
    with pytest.raises(PhotplugError, match=r"option kron_min: 4\.0 is above kron_max 3\.8"):
        MeasureOptions(kron_min=4)
    assert MeasureOptions(kron_min=3, kron_max=3).kron_max == 3


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_given_as_its_options(name: str) -> None:
    for value in (None, "dja", {"noise": "dja"}):
        with pytest.raises(PhotplugError, match=rf"option {name}: .* is not of type {STAGES[name].__name__}"):
            Options(**{name: value})


def test_presets_are_options() -> None:
    assert as_variance_options("calibrated") == VarianceOptions(noise="calibrated")
    options = VarianceOptions(noise="background", detector_gain=2)
    assert as_variance_options(options) is options
    assert as_variance_options("mine").noise == "mine"  # whether a plugin claims it is known where it is used
    for noise in (None, 3):
        with pytest.raises(PhotplugError, match="option noise: "):
            as_variance_options(noise)


def test_metadata_are_plain_values() -> None:
    options = Options(cutout=(slice(0, 5), slice(3, 9)), overwrite=True, variance=VarianceOptions(detector_gain=2))
    values = options.as_dict()
    again = json.loads(json.dumps(values))
    assert set(again) == {"engine", "cutout", *STAGES}  # whether a file was replaced does not change the numbers
    assert again["variance"] == {
        "noise": "calibrated",
        "detector_gain": 2.0,
        "phot_scale": None,
        "trust_weights": False,
    }
    assert again["measure"]["apertures"] == [0.36, 0.5, 0.7, 1.0]
    assert again["cutout"] == "(slice(0, 5, None), slice(3, 9, None))"
    assert Options().as_dict()["cutout"] is None


OTHER = Options(
    engine="photutils",
    variance=VarianceOptions(noise="dja", detector_gain=1.9, phot_scale=0.25, trust_weights=True),
    background=BackgroundOptions(mesh=3.5, mesh_filter=5, rescale_weights="yes"),
    detect=DetectOptions(
        noise="background",
        n_sigma=2.5,
        n_pixels=5,
        kernel=0.0,
        filter_type="matched",
        n_levels=64,
        contrast=0.5,
        clean=0,
        extraction="whole",
        use_segmentation="seg.fits",
    ),
    calibration=CalibrationOptions(
        radius_min=0.1,
        radius_max=1,
        n_radii=9,
        n_apertures=500,
        margin=0,
        zones=3,
        seed=7,
    ),
    measure=MeasureOptions(
        apertures=(0.2, 3.0),
        kron_factor=2,
        kron_min=1,
        kron_max=9,
        kron_circle=0,
        background="annulus",
        annulus=(1, 4),
        neighbours="keep",
        positions="windowed",
        window=0.1,
        photon_gain=1800,
        details=True,
    ),
    epochs=EpochOptions(details=("visits", "gap"), visit_gap=2.5),
    bands=BandOptions(
        detect="f277w",
        psf={"f444w": "a.fits", "f277w": "b.fits"},
        match="broadest",
        sky="masked",
        zero_point={"f444w": 28},
        stack="ir",
        workers=2,
    ),
    tiles=TileOptions(size=2000, overlap=200, scratch="folder", scheduler="tcp://a:1"),
    output=OutputOptions(format="eazy", eazy_aperture=2),
)


def write(value: Any) -> str:
    """Return a value as TOML, whose tables have = where JSON has a colon."""
    return json.dumps(value, separators=(", ", " = ")) if isinstance(value, dict) else json.dumps(value)


def as_toml(options: Options) -> str:
    """Return the options as TOML, whose numbers, strings and lists are spelt as in JSON."""
    values = options.as_dict()
    lines = [f"engine = {json.dumps(values['engine'])}"]
    for table in STAGES:
        lines += [f"[{table}]", *(f"{k} = {write(v)}" for k, v in values[table].items() if v is not None)]
    return "\n".join(lines)


@pytest.mark.parametrize("options", [Options(), OTHER])
def test_toml_round_trip(tmp_path: Path, options: Options) -> None:
    assert all(getattr(OTHER, name) != getattr(Options(), name) for name in ("engine", *STAGES))
    path = tmp_path / "options.toml"
    path.write_text(as_toml(options) + "\n# Ångström\n", encoding="utf-8")
    assert collect_options({}, path) == options


def make_parser(**kwargs: Any) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_flags(parser, kwargs.pop("stages", STAGES), **({"engine": True} | kwargs))
    return parser


def collect(*argv: str) -> Options:
    arguments = make_parser().parse_args(argv)
    return collect_options(vars(arguments), arguments.config)


def test_flags_win_over_toml_wins_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('engine = "photutils"\n[detect]\nn_sigma = 3\nn_pixels = 5\n[measure]\napertures = [1]\n')
    assert collect() == Options()
    config = ("--config", str(path))
    from_file = collect(*config)
    assert from_file == Options(
        engine="photutils", detect=DetectOptions(n_sigma=3, n_pixels=5), measure=MeasureOptions(apertures=(1,))
    )
    both = collect(*config, "--n-sigma", "2", "--apertures", "0.5,0.7", "--engine", "sep", "--kernel", "0")
    assert both == Options(
        detect=DetectOptions(n_sigma=2, n_pixels=5, kernel=0), measure=MeasureOptions(apertures=(0.5, 0.7))
    )
    # A flag that repeats the default also wins.
    assert collect(*config, "--n-sigma", "1.5").detect.n_sigma == 1.5


def test_options_of_plugins_have_defaults_too(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flat(Stage):
        error: float = option(0.02, "error")
        scale: float = option(1.0, "scale")

    path = tmp_path / "options.toml"
    path.write_text("[flat]\nscale = 3.0\n")
    defaults = Options(plugins={"flat": Flat(error=0.5, scale=2.0)})
    assert collect_options({}, path, defaults, {"flat": Flat}).of(Flat) == Flat(error=0.5, scale=3.0)
    assert collect_options({}, path, None, {"flat": Flat}).of(Flat) == Flat(scale=3.0)


def test_every_option_has_a_flag_of_its_own() -> None:
    parser = make_parser()  # argparse itself refuses a flag that is there twice
    flags = {action.dest: action.option_strings for action in parser._actions}
    expected = {f"{table}.{field.name}" for table, stage in STAGES.items() for field in dataclasses.fields(stage)}
    assert set(flags) == expected | {"help", "config", "options.engine"}
    everything = [flag for names in flags.values() for flag in names]
    assert len(set(everything)) == len(everything)
    assert (flags["variance.noise"], flags["detect.noise"]) == (["--noise"], ["--detect-noise"])
    assert flags["measure.background"] == ["--sky"]


def test_every_flag_reaches_its_option() -> None:
    parser = make_parser()
    argv = []
    for action in parser._actions:
        table, _, name = action.dest.partition(".")
        if name:
            value = OTHER.engine if table == "options" else getattr(getattr(OTHER, table), name)
            pairs = [f"{band}={item}" for band, item in value.items()] if isinstance(value, dict) else [value]
            if value is True:  # a flag without a value
                argv.append(action.option_strings[0])
                continue
            for item in pairs:
                text = ",".join(map(str, item)) if isinstance(item, tuple) else str(item)
                argv += [action.option_strings[0], text]
    assert collect(*argv) == OTHER


def test_the_help_tells_meaning_default_and_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # argparse breaks lines at hyphens too
    text = make_parser().format_help()
    assert "diameters of the circular apertures [arcsec] (default 0.36,0.5,0.7,1.0)" in text
    assert "minimum number of connected pixels [pix] (default 9)" in text
    assert "--detect-noise {full,background}" in text
    assert "weighted by exposure time) [e-/DN]\n" in text  # no default to tell
    assert all(field.metadata["help"] in text for stage in STAGES.values() for field in dataclasses.fields(stage))


def test_only_the_named_stages_have_flags() -> None:
    parser = make_parser(stages=["variance"], engine=False)
    assert {a.dest.partition(".")[0] for a in parser._actions} == {"help", "config", "variance"}
    # Arguments that are no options pass by.
    assert (
        collect_options({"variance.noise": "background", "mosaic": "x", "no.option": 1}).variance.noise == "background"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--apertures", "0.5;0.7"], "argument --apertures: '0.5;0.7' is no list of numbers with commas between"),
        (["--apertures", "0.5,,0.7"], "is no list of numbers with commas between them"),
        (["--apertures", ""], "is no list of numbers with commas between them"),
        (["--n-pixels", "3.5"], "argument --n-pixels: invalid int value: '3.5'"),
        (["--n-sigma", "three"], "argument --n-sigma: invalid float value: 'three'"),
        (["--detect-noise", "dja"], "argument --detect-noise: invalid choice: 'dja'"),
        (["--n-sigma"], "argument --n-sigma: expected one argument"),
        (["--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_a_wrong_flag_is_a_usage_error(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_value_out_of_bounds_is_told_by_its_option() -> None:
    with pytest.raises(PhotplugError, match="option n_sigma: -1.0 is below its minimum 0.01"):
        collect("--n-sigma", "-1")
    with pytest.raises(PhotplugError, match="option apertures: nan is not a finite number arcsec"):
        collect("--apertures", "0.5,nan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[detect]\nsigma = 3", r"\[detect\] sigma is not an option; known: noise, n_sigma, n_pixels, "),
        ("[detection]\nn_sigma = 3", r"detection is not an option; known: engine, \[variance\], .*\[detect\]"),
        ("n_sigma = 3", r"n_sigma is not an option; known: engine, \[variance\]"),
        ("detect = 3", r"detect is not an option; known: engine, .*\[detect\]"),
        ("[[detect]]\nn_sigma = 3", r"detect is not an option; known: engine, .*\[detect\]"),
        ("overwrite = true", r"overwrite is not an option"),
        ("[options]\nengine = 'sep'", r"options is not an option"),
        ("[detect\nn_sigma = 3", r"not valid TOML \(.+line 1.*\); correct the file"),
        ("engine = 'a'\nengine = 'b'", r"not valid TOML"),
        (b"engine = '\xff'", r"not valid TOML"),
        ("n = " + 5000 * "9", r"not valid TOML"),  # Python converts 4300 digits at most
    ],
)
def test_a_wrong_file_is_told_by_name(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "options.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PhotplugError, match=rf"^\S*options\.toml: {message}"):
        collect_options({}, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine = 3", "option engine: 3 is not of type str"),
        ("[detect]\nn_sigma = '3'", "option n_sigma: '3' is not of type float"),
        ("[detect]\nn_sigma = nan", "option n_sigma: nan is not a finite number"),
        ("[detect]\nn_pixels = true", "option n_pixels: True is not of type int"),
        ("[measure]\napertures = 0.5", "option apertures: 0.5 is not a list"),
        ("[measure]\napertures = [0.5, '1']", "option apertures: '1' is not of type float"),
        ("[detect]\nnoise = 'x'", "option noise: 'x' is not one of full, background"),
    ],
)
def test_a_wrong_value_in_a_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "options.toml"
    path.write_text(text)
    with pytest.raises(PhotplugError, match=message):
        collect_options({}, path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(PhotplugError, match=rf"{path.name}: cannot read the configuration \(.+\); check --config"):
            collect_options({}, path)


def test_bands_are_given_by_filter_too() -> None:
    options = BandOptions(psf={"F444W-clear": "a.fits", "clearp-f356w": "b.fits"})
    assert options.psf == {"f444w": "a.fits", "f356wn": "b.fits"}


def test_values_by_band() -> None:
    bare, named = VarianceOptions(detector_gain=2), VarianceOptions(detector_gain={"F444W-clear": 2, "f115w": 3})
    assert (bare.detector_gain, named.detector_gain) == (2.0, {"f444w": 2.0, "f115w": 3.0})
    assert [of_band(named, band).detector_gain for band in ("f444w", "f115w", "f200w")] == [2.0, 3.0, None]
    assert of_band(bare, "f444w") is bare
    options = Options(variance=bare, bands=BandOptions(zero_point=25.0))
    settled = settle_bands(options, ["f444w"])
    assert (settled.variance, settled.bands.zero_point) == (options.variance, {"f444w": 25.0})
    assert settle_bands(Options(), ["f444w", "f115w"]) == Options()
    with pytest.raises(PhotplugError, match=r"^option zero_point: 25\.0 is the value of one band, .* f444w=25\.0$"):
        settle_bands(replace(options, variance=VarianceOptions()), ["f444w", "f115w"])
    with pytest.raises(PhotplugError, match=r"^option detector_gain: f115w is not one of .* f444w; give one$"):
        settle_bands(Options(variance=named), ["f444w"])
    with pytest.raises(PhotplugError, match="names a band, but the image has none"):
        settle_bands(Options(variance=named), [""])
    with pytest.raises(PhotplugError, match=r"\(\('f444w', 2\), 3\) is not a value for each band"):
        VarianceOptions(detector_gain=(("f444w", 2), 3))


def test_plugins_options_are_settled_too() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flat(Stage):
        error: Mapping[str, float] = option({}, "error of the flat field", kind=float)

    options = Options(plugins={"flat": Flat(error=0.1)})
    assert settle_bands(options, ["f444w"]).of(Flat).error == {"f444w": 0.1}
    with pytest.raises(PhotplugError, match=r"option error: 0\.1 is the value of one band"):
        settle_bands(options, ["f444w", "f115w"])
