"""Flags and keys that have no effect beside others, which is told: who gives one means something by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dja_photplug.options.arguments import Layer
from dja_photplug.options.commands import COMMAND_STAGES, InjectionOptions
from dja_photplug.options.declare import declarations, flag_of
from dja_photplug.options.run import STAGES, Options
from dja_photplug.options.stages import ENGINES, NOISE_PRESETS

__all__ = ["describe_idle", "describe_idle_injection", "describe_idle_keys"]

T = TypeVar("T")

_DETECTION = ("n_sigma", "n_pixels", "filter_type", "n_levels", "contrast", "clean", "extraction")
_CALIBRATION = ("radius_min", "radius_max", "n_radii", "n_apertures", "margin", "zones", "seed")


class _Naming(Protocol):
    """How a message names an option, ``group.name``, and a value of it: ``--sky annulus``."""

    def __call__(self, name: str, value: object = None) -> str: ...


@dataclass(frozen=True, slots=True)
class _Rule(Generic[T]):
    """When options have no effect.

    Attributes
    ----------
    options : tuple of str
        As ``group.name``.
    idle : callable
        Whether they have none, of settled options.
    why : callable
        What they would need, of the options and of how a message names one.
    """

    options: tuple[str, ...]
    idle: Callable[[T], bool]
    why: Callable[[T, _Naming], str]


def _group(name: str, *options: str) -> tuple[str, ...]:
    return tuple(f"{name}.{option}" for option in options)


def _is_known(options: Options) -> bool:
    """Return whether engine and preset are ours; a plugin's may take any option."""
    return options.engine in ENGINES and options.variance.noise in NOISE_PRESETS


_RULES: tuple[_Rule[Options], ...] = (
    _Rule(
        _group("calibration", *_CALIBRATION),
        lambda options: _is_known(options) and options.variance.noise != "calibrated",
        lambda options, name: (
            f"the noise preset {options.variance.noise!r} measures no empty apertures; give "
            f"{name('variance.noise', 'calibrated')}"
        ),
    ),
    _Rule(
        _group("detect", *_DETECTION),
        lambda options: options.detect.use_segmentation is not None,
        lambda options, name: f"the segments are given ({name('detect.use_segmentation')})",
    ),
    _Rule(
        _group("detect", "n_levels"),
        lambda options: _is_known(options) and options.detect.contrast == 1,
        lambda options, name: f"nothing is deblended with {name('detect.contrast', 1)}",
    ),
    _Rule(
        _group("detect", "filter_type"),
        lambda options: _is_known(options) and options.detect.kernel == 0,
        lambda options, name: f"nothing is smoothed with {name('detect.kernel', 0)}",
    ),
    _Rule(
        _group("measure", "annulus"),
        lambda options: _is_known(options) and "annulus" not in (options.measure.background, options.bands.sky),
        lambda options, name: (
            f"the sky is {options.measure.background!r}; give {name('measure.background', 'annulus')}"
        ),
    ),
    _Rule(
        _group("measure", "window"),
        lambda options: _is_known(options) and options.measure.positions != "windowed",
        lambda options, name: (
            f"positions are {options.measure.positions!r}; give {name('measure.positions', 'windowed')}"
        ),
    ),
    _Rule(
        _group("output", "eazy_aperture"),
        lambda options: options.output.format == "table",
        lambda options, name: f"it applies to the formats eazy and lephare; give {name('output.format')}",
    ),
)


def describe_idle(options: Options, given: Collection[str]) -> list[str]:
    """Return which flags have no effect, and why.

    Parameters
    ----------
    options : Options
        Of a run.
    given : collection of str
        What flags gave of them, as ``group.name``.

    Returns
    -------
    list of str
        A line for each reason; empty where all have one.

    Examples
    --------
    >>> describe_idle(Options(), ["measure.annulus"])
    ["--annulus has no effect: the sky is 'mesh'; give --sky annulus"]
    """
    found = _find(_RULES, options.settle(), given, _name_flag)
    return [_tell([_name_flag(name) for name in idle], why) for idle, why in found]


def describe_idle_keys(options: Options, layer: Layer, given: Collection[str], flags: Collection[str]) -> list[str]:
    """Return which options of a TOML file have no effect, and why.

    Parameters
    ----------
    options : Options
        Of a run.
    layer : Layer
        Where they are in the file.
    given : collection of str
        Those of it that nobody overrides, as ``group.name``.
    flags : collection of str
        What flags gave, which the message names as such.

    Returns
    -------
    list of str
        A line for each reason; empty where all have one.

    Examples
    --------
    >>> from pathlib import Path
    >>> layer = Layer(path=Path("f.toml"), prefix="options", values={})
    >>> print(*describe_idle_keys(Options(), layer, ["measure.annulus"], []))
    f.toml: [options.measure] annulus has no effect: the sky is 'mesh'; give measure.background = "annulus"
    """

    def name_option(name: str, value: object = None) -> str:
        if name in flags:
            return _name_flag(name, value)
        return name if value is None else f"{name} = {json.dumps(value)}"

    told = []
    for idle, why in _find(_RULES, options.settle(), given, name_option):
        group, _, first = idle[0].partition(".")  # all that a rule is about are of one group
        names = [f"{layer.path}: {layer.name(group, first)}", *(name.partition(".")[2] for name in idle[1:])]
        told.append(_tell(names, why))
    return told


_INJECTION_RULES: tuple[_Rule[InjectionOptions], ...] = (
    _Rule(
        _group("injection", "half_light", "axis_ratio", "sersic_index"),
        lambda injection: injection.shape == "point",
        lambda injection, name: f"points are injected; give {name('injection.shape')}",
    ),
    _Rule(
        _group("injection", "sersic_index"),
        lambda injection: injection.shape != "sersic",
        lambda injection, name: f"the shape is {injection.shape!r}; give {name('injection.shape', 'sersic')}",
    ),
)


def describe_idle_injection(injection: InjectionOptions, given: Collection[str], *, psf: bool) -> list[str]:
    """Return which flags of the sources that are injected have no effect, and why.

    Parameters
    ----------
    injection : InjectionOptions
    given : collection of str
        As for :func:`describe_idle`.
    psf : bool
        Whether there is an image of the PSF.

    Returns
    -------
    list of str
    """
    image: _Rule[InjectionOptions] = _Rule(
        _group("injection", "psf_fwhm"), lambda injection: psf, lambda injection, name: "the PSF is that of --psf"
    )
    found = _find((*_INJECTION_RULES, image), injection, given, _name_flag)
    return [_tell([_name_flag(name) for name in idle], why) for idle, why in found]


def _find(rules: Sequence[_Rule[T]], options: T, given: Collection[str], name: _Naming) -> list[tuple[list[str], str]]:
    """Return the options that have no effect, those of one rule together, with the reason."""
    found: list[tuple[list[str], str]] = []
    done: set[str] = set()
    for rule in rules:
        idle = [option for option in rule.options if option in given and option not in done]
        if idle and rule.idle(options):
            done |= set(idle)
            found.append((idle, rule.why(options, name)))
    return found


def _tell(names: Sequence[str], why: str) -> str:
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect: {why}"


def _name_flag(name: str, value: object = None) -> str:
    """Return the flag of an option, with a value."""
    group, _, option = name.partition(".")
    kind = STAGES[group] if group in STAGES else COMMAND_STAGES[group]
    flag = flag_of(option, dict(declarations(kind))[option])
    return flag if value is None else f"{flag} {value}"
