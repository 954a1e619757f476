"""Images that several files of tests look at."""

from __future__ import annotations

import pytest

from dja_photplug import MosaicImage, load_mosaic
from tests.helpers import uds_prefix


@pytest.fixture(scope="session")
def image(data) -> MosaicImage:
    return load_mosaic(uds_prefix(data))
