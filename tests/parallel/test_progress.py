"""The bar of a run: bytes that are read, and tiles that are done."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

import dja_photplug as dp
from dja_photplug.parallel.progress import Stages, show_stages, tell_read
from dja_photplug.simulate.mosaic import SimulatedMosaic
from tests.helpers import copy_products


class Bar(tqdm):
    """A bar that keeps what it says."""

    said: list[tuple[str, float]]

    def set_description_str(self, desc: str | None = None, refresh: bool | None = True) -> None:
        self.said = [*getattr(self, "said", []), (str(desc), self.n)]


def test_loading_tells_the_bytes_it_has_read(photplug_mosaic: SimulatedMosaic, monkeypatch) -> None:
    monkeypatch.setattr("dja_photplug.parallel.progress.tqdm", Bar)
    monkeypatch.setattr("dja_photplug.parallel.progress.MEGABYTE", 1000)
    monkeypatch.setattr("dja_photplug.files.pixels.BLOCK_PIXELS", 20_000)
    with show_stages(["loading", "detecting"], show=False) as stages:
        stages.begin("loading")
        image = dp.load_mosaic(photplug_mosaic.prefix)
        stages.begin("detecting")
    size = 2 * image.data.nbytes // 1000
    told = [re.fullmatch(r"loading (\d+)/(\d+) MB", text) for text, _ in stages.bar.said[1:-1]]
    assert all(told)
    done = [int(one[1]) for one in told if one]
    assert {int(one[2]) for one in told if one} == {size}
    assert len(done) > 2
    assert done == sorted(done)
    assert done[-1] == size
    places = [place for _, place in stages.bar.said]
    assert places == sorted(places)
    tell_read(10**9, 10**9)  # nobody shows it any more
    assert len(stages.bar.said) == len(places)


def test_a_stack_tells_the_bytes_of_all_its_bands(photplug_mosaic: SimulatedMosaic, tmp_path, monkeypatch) -> None:
    """Which are read side by side, in other threads."""
    bars: list[Bar] = []

    def begin(*arguments: object, **settings: object) -> Bar:
        bars.append(Bar(*arguments, **settings))
        return bars[-1]

    monkeypatch.setattr("dja_photplug.parallel.progress.tqdm", begin)
    monkeypatch.setattr("dja_photplug.parallel.progress.MEGABYTE", 1000)
    monkeypatch.setattr("dja_photplug.mosaic.stack.BLOCK_PIXELS", 20_000)
    first = copy_products(photplug_mosaic.prefix, tmp_path)
    band = first.name.split("-")[-2]
    for path in list(tmp_path.iterdir()):
        shutil.copy(path, tmp_path / path.name.replace(band, "f277w"))
    second = tmp_path / first.name.replace(band, "f277w")
    options = dp.Options(variance=dp.VarianceOptions(noise="dja"), bands=dp.BandOptions(detect="stack", workers=2))
    image = dp.run([first, second], options).image
    size = 2 * 2 * image.data.nbytes // 1000
    loading = [text for bar in bars for text, _ in bar.said if text.startswith("loading")]
    told = [re.fullmatch(r"loading (\d+)/(\d+) MB", text) for text in loading]
    done = [int(one[1]) for one in told if one and int(one[2]) == size]
    assert len(done) > 2
    assert done == sorted(done)
    assert done[-1] == size


def test_tiles_are_counted() -> None:
    def work(do: Callable, items: Iterable) -> Iterator:
        return map(do, items)

    with Bar(total=10, disable=True) as bar:
        stages = Stages(bar)
        stages.begin("detecting")
        assert list(stages.watch(work)(abs, [-1, -2, -3])) == [1, 2, 3]
        assert [text for text, _ in bar.said] == [
            "detecting",
            *(f"detecting {i}/3" for i in (1, 2, 3)),
        ]
