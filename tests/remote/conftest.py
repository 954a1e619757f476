"""A mosaic on a web server of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dja_photplug.remote import cache, ranges, transport
from tests.remote.server import FolderServer, serve_folder


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of servers, the cache is empty, and nobody waits long."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("DJA_PHOTPLUG_URL", raising=False)
    monkeypatch.setattr(transport, "WAIT", 0.001)
    monkeypatch.setattr(ranges, "_BLOCKS", ranges._Blocks())
    transport.describe.cache_clear()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FolderServer]:
    """A server of an empty folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serve_folder(folder) as server:
        yield server
