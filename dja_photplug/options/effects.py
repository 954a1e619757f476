"""Flags that have no effect beside others, which is told: who gives one means something by it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dja_photplug.options.commands import COMMAND_STAGES, InjectionOptions
from dja_photplug.options.declare import declarations, flag_of
from dja_photplug.options.run import STAGES, Options
from dja_photplug.options.stages import ENGINES, NOISE_PRESETS

__all__ = ["describe_idle", "describe_idle_injection"]

T = TypeVar("T")

_DETECTION = ("n_sigma", "n_pixels", "filter_type", "n_levels", "contrast", "clean", "extraction")
_CALIBRATION = ("radius_min", "radius_max", "n_radii", "n_apertures", "margin", "zones", "seed")


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
        What they would need.
    """

    options: tuple[str, ...]
    idle: Callable[[T], bool]
    why: Callable[[T], str]


def _group(name: str, *options: str) -> tuple[str, ...]:
    return tuple(f"{name}.{option}" for option in options)


def _is_known(options: Options) -> bool:
    """Return whether engine and preset are ours; a plugin's may take any option."""
    return options.engine in ENGINES and options.variance.noise in NOISE_PRESETS


_RULES: tuple[_Rule[Options], ...] = (
    _Rule(
        _group("calibration", *_CALIBRATION),
        lambda options: _is_known(options) and options.variance.noise != "calibrated",
        lambda options: (
            f"the noise preset {options.variance.noise!r} measures no empty apertures; give --noise calibrated"
        ),
    ),
    _Rule(
        _group("detect", *_DETECTION),
        lambda options: options.detect.use_segmentation is not None,
        lambda options: "the segments are given (--use-segmentation)",
    ),
    _Rule(
        _group("detect", "n_levels"),
        lambda options: _is_known(options) and options.detect.contrast == 1,
        lambda options: "nothing is deblended with --contrast 1",
    ),
    _Rule(
        _group("detect", "filter_type"),
        lambda options: _is_known(options) and options.detect.kernel == 0,
        lambda options: "nothing is smoothed with --kernel 0",
    ),
    _Rule(
        _group("measure", "annulus"),
        lambda options: _is_known(options) and "annulus" not in (options.measure.background, options.bands.sky),
        lambda options: f"the sky is {options.measure.background!r}; give --sky annulus",
    ),
    _Rule(
        _group("measure", "window"),
        lambda options: _is_known(options) and options.measure.positions != "windowed",
        lambda options: f"positions are {options.measure.positions!r}; give --positions windowed",
    ),
    _Rule(
        _group("output", "eazy_aperture"),
        lambda options: options.output.format == "table",
        lambda options: "it applies to the formats eazy and lephare; give --format",
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
    return _describe(_RULES, options.settle(), given)


_INJECTION_RULES: tuple[_Rule[InjectionOptions], ...] = (
    _Rule(
        _group("injection", "half_light", "axis_ratio", "sersic_index"),
        lambda injection: injection.shape == "point",
        lambda injection: "points are injected; give --shape",
    ),
    _Rule(
        _group("injection", "sersic_index"),
        lambda injection: injection.shape != "sersic",
        lambda injection: f"the shape is {injection.shape!r}; give --shape sersic",
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
        _group("injection", "psf_fwhm"), lambda injection: psf, lambda injection: "the PSF is that of --psf"
    )
    return _describe((*_INJECTION_RULES, image), injection, given)


def _describe(rules: Sequence[_Rule[T]], options: T, given: Collection[str]) -> list[str]:
    told: list[str] = []
    done: set[str] = set()
    for rule in rules:
        idle = [name for name in rule.options if name in given and name not in done]
        if idle and rule.idle(options):
            done |= set(idle)
            have = "has" if len(idle) == 1 else "have"
            told.append(f"{', '.join(map(_find_flag, idle))} {have} no effect: {rule.why(options)}")
    return told


def _find_flag(name: str) -> str:
    """Return the flag of an option."""
    group, _, option = name.partition(".")
    kind = STAGES[group] if group in STAGES else COMMAND_STAGES[group]
    return flag_of(option, dict(declarations(kind))[option])
