"""All options of one run: a group for each stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from dja_photplug.options.declare import Stage, option
from dja_photplug.options.stages import (
    SCIENCE_NOISE,
    BackgroundOptions,
    BandOptions,
    CalibrationOptions,
    DetectOptions,
    EpochOptions,
    MeasureOptions,
    OutputOptions,
    TileOptions,
    VarianceOptions,
)

if TYPE_CHECKING:
    from dja_photplug.sky.cutouts import Cutout

__all__ = ["STAGES", "Options"]

S = TypeVar("S", bound=Stage)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options(Stage):
    """All options of one run: the engine, and one group for each stage.

    ``cutout`` is what :func:`dja_photplug.load_mosaic` takes; ``overwrite`` lets outputs replace existing files;
    ``plugins`` holds the options of plugins under the names that these gave them, which :meth:`of` returns.

    Examples
    --------
    >>> Options(detect=DetectOptions(n_sigma=3)).detect.n_sigma
    3.0
    """

    engine: str = option("sep", "engine for detection and photometry: 'sep', 'photutils', or a plugin's")
    cutout: Cutout = None
    overwrite: bool = False
    variance: VarianceOptions = VarianceOptions(noise=SCIENCE_NOISE)
    background: BackgroundOptions = BackgroundOptions()
    detect: DetectOptions = DetectOptions()
    calibration: CalibrationOptions = CalibrationOptions()
    measure: MeasureOptions = MeasureOptions()
    epochs: EpochOptions = EpochOptions()
    bands: BandOptions = BandOptions()
    tiles: TileOptions = TileOptions()
    output: OutputOptions = OutputOptions()
    plugins: Mapping[str, Stage] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check each field; a noise preset that nobody chose is the one for science."""
        Stage.__post_init__(self)
        if not self.variance.noise:
            object.__setattr__(self, "variance", dataclasses.replace(self.variance, noise=SCIENCE_NOISE))

    def settle(self) -> Options:
        """Return the options with what ``auto`` stands for in the group ``measure``.

        Returns
        -------
        Options
            The same where nothing is left open. The preset ``calibrated`` takes off sky and neighbours, because its
            errors say nothing of them, and centres apertures where noise moves them least; others measure what is
            published.
        """
        measure, calibrated = self.measure, self.variance.noise == "calibrated"
        sky, neighbours = measure.background, measure.neighbours
        if sky == "auto":
            sky = "mesh" if calibrated else "none"
        if neighbours == "auto":
            neighbours = "subtract" if calibrated and sky != "annulus" else "mask"
        positions = measure.positions
        if positions == "auto":
            positions = "windowed" if calibrated else "isophotal"
        settled = dataclasses.replace(measure, background=sky, neighbours=neighbours, positions=positions)
        return dataclasses.replace(self, measure=settled)

    @property
    def apart(self) -> bool:
        """Whether the band that sources are detected on is measured again as a band, as others are."""
        return self.bands.sky is not None or self.background.rescale_weights == "yes"

    @property
    def details(self) -> bool:
        """Whether the catalogue has the columns of Source Extractor that those of the archive have."""
        return self.measure.details or self.output.schema == "dja"

    def for_bands(self) -> Options:
        """Return the options for bands in which known sources are measured: their sky may be another.

        Returns
        -------
        Options
        """
        if self.bands.sky is None:
            return self
        return dataclasses.replace(self, measure=dataclasses.replace(self.measure, background=self.bands.sky))

    def of(self, kind: type[S]) -> S:
        """Return the options of a plugin, their defaults where nobody gave any.

        Parameters
        ----------
        kind : type
            The class that the plugin names in ``photplug_options``.

        Returns
        -------
        Stage
            Of that class.
        """
        return next((stage for stage in self.plugins.values() if isinstance(stage, kind)), None) or kind()

    def as_dict(self) -> dict[str, object]:
        """Return nested plain values, as TOML would hold them, and the cut-out as text.

        Returns
        -------
        dict
            Value by option and, for each group, a dictionary; those of plugins by their names. Without ``overwrite``.
        """
        values: dict[str, object] = dataclasses.asdict(dataclasses.replace(self, cutout=None, plugins={}))
        del values["overwrite"], values["plugins"]
        values |= {name: dataclasses.asdict(stage) for name, stage in self.plugins.items()}
        return values | {"cutout": None if self.cutout is None else str(self.cutout)}


STAGES: dict[str, type[Stage]] = {
    field.name: type(field.default) for field in dataclasses.fields(Options) if isinstance(field.default, Stage)
}
