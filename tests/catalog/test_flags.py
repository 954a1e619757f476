"""Flags: the bits of sep and their names."""

from __future__ import annotations

import numpy as np
import sep

from dja_photplug.catalog.flags import SourceFlag, decode_flags


def test_low_flags_are_those_of_sep() -> None:
    ours = [SourceFlag.DEBLENDED, SourceFlag.TRUNCATED, SourceFlag.DEBLEND_OVERFLOW, SourceFlag.SINGULAR]
    assert ours == [sep.OBJ_MERGED, sep.OBJ_TRUNC, sep.OBJ_DOVERFLOW, sep.OBJ_SINGU]
    ours = [SourceFlag.APER_TRUNCATED, SourceFlag.APER_MASKED, SourceFlag.APER_ALL_MASKED]
    assert ours == [sep.APER_TRUNC, sep.APER_HASMASKED, sep.APER_ALLMASKED]
    assert sep.APER_NONPOSITIVE == SourceFlag.APER_NON_POSITIVE
    assert [flag.value for flag in SourceFlag] == [1 << i for i in range(len(SourceFlag))]
    assert all(flag.description for flag in SourceFlag)


def test_decode_flags() -> None:
    assert decode_flags(0) == []
    assert decode_flags(np.int32(1 + 32 + 1024)) == ["DEBLENDED", "APER_MASKED", "NOT_MEASURED"]
