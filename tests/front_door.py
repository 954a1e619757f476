"""What type checkers see of the front door, whose names are loaded when they are used: read by mypy, never called.

An unused ``ignore`` is an error (`warn_unused_ignores`), so that a name that is not there must be found.
"""

from typing import assert_type

import dja_photplug as dp
from dja_photplug.mosaic.image import MosaicImage
from dja_photplug.pipeline.steps.result import Result


def see() -> None:
    assert_type(dp.run(["mosaic"]), Result)
    assert_type(dp.load_mosaic("mosaic"), MosaicImage)
    assert_type(dp.Options().detect.n_sigma, float)
    dp.run(1)  # type: ignore[arg-type]
    dp.rum  # type: ignore[attr-defined]  # noqa: B018
