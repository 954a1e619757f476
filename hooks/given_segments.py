"""Measures the segments of a given file, ``use_segmentation``, instead of detecting sources, with every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dja_photplug.hookspecs import hookimpl

if TYPE_CHECKING:
    from dja_photplug.light.mesh import Background
    from dja_photplug.mosaic.image import MosaicImage
    from dja_photplug.options.run import Options
    from dja_photplug.sources.detection import Detection


@hookimpl(tryfirst=True)
def photplug_detect(image: MosaicImage, background: Background, options: Options) -> Detection | None:
    """Claim where a segmentation is given."""
    if options.detect.use_segmentation is None:
        return None
    from dja_photplug.sources.segments import detect_given

    return detect_given(image, background, options)
