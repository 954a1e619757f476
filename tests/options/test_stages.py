"""Options of the stages beside the columns that they ask for."""

from __future__ import annotations

import pytest

from dja_photplug import PhotplugError
from dja_photplug.catalog.schema import EPOCH_DETAIL_COLUMNS
from dja_photplug.options.stages import EPOCH_DETAILS, EpochOptions


def test_options_and_catalogue_name_the_same_groups() -> None:
    assert tuple(EPOCH_DETAIL_COLUMNS) == EPOCH_DETAILS
    assert EpochOptions(details=("edge", "gap")).groups == ("gap", "edge")
    assert EpochOptions(details=("all",)).groups == EPOCH_DETAILS
    assert EpochOptions().groups == ()
    with pytest.raises(PhotplugError, match="'colour' is not one of none, all, visits"):
        EpochOptions(details=("colour",))
