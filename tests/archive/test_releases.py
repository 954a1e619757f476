"""Which fields the archive has, by its server's index or as they were known."""

from __future__ import annotations

import pytest

from dja_photplug.archive.releases import ARCHIVE_URL, FIELDS, archive_folder, list_fields
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import is_mosaic_name
from dja_photplug.remote.paths import RemotePath


def test_folder_is_the_given_one_the_environments_or_the_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJA_PHOTPLUG_URL", raising=False)
    assert str(archive_folder()) == ARCHIVE_URL
    monkeypatch.setenv("DJA_PHOTPLUG_URL", "s3://bucket/v7")
    assert str(archive_folder()) == "s3://bucket/v7"
    assert str(archive_folder("https://example.org/a/")) == "https://example.org/a"


def test_fields_are_known_without_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: RemotePath) -> None:
        raise PhotplugError("no network")

    monkeypatch.setattr(RemotePath, "iterdir", unreachable)
    with pytest.warns(PhotplugWarning, match="no network.*the fields known to this version"):
        assert list_fields(archive_folder(ARCHIVE_URL)) == dict.fromkeys(FIELDS, 0)
    with pytest.raises(PhotplugError, match="cannot be listed .no network"):
        list_fields(archive_folder("https://example.org/a"))
    assert all(is_mosaic_name(f"{field}-f444w-clear") for field in FIELDS)
    assert list(FIELDS) == sorted(set(FIELDS))
