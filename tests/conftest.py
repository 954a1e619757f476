"""Shared fixtures: the folder of real mosaics, and the bare-checkout guard for ``dja_photplug.hooks``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dja_photplug
from dja_photplug.simulate.mosaic import SimulatedMosaic
from dja_photplug.testing import photplug_manager, photplug_mosaic  # noqa: F401  # fixtures
from tests.helpers import copy_products, simulate_isolated

collect_ignore = ["fuzz/guided.py"]  # a script, for the extra `fuzz`

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import WorkStealingScheduling

# In a bare checkout nothing maps the top-level folder `hooks` to `dja_photplug.hooks`: the packaging does that
# when the project is installed (wheel or editable). Reading the package path keeps one name in all three.
if find_spec("dja_photplug.hooks") is None:
    dja_photplug.__path__.append(str(Path(__file__).resolve().parent.parent))


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real DJA cut-outs (environment variable ``DJA_PHOTPLUG_DATA``)."""
    folder = os.environ.get("DJA_PHOTPLUG_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real mosaics: set DJA_PHOTPLUG_DATA to the folder that holds uds/ and smacs0723/")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMosaic:
    """A simulated mosaic with truth; see `tests.helpers.simulate_isolated`."""
    return simulate_isolated(tmp_path_factory.mktemp("simulated"))


@pytest.fixture
def folder(simulated: SimulatedMosaic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the simulated products, ``sim-test-v7.4-f444w-clear``, in a folder that is the working directory."""
    copy_products(simulated.prefix, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


CLUSTER = """
import logging, sys
from distributed import LocalCluster
with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0", silence_logs=logging.ERROR) as cluster:
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of a Dask cluster, which starts once for all tests: two processes with two threads each.

    They are no children of the tests, some of which kill what they find of theirs.
    """
    pytest.importorskip("distributed")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as cluster:
        assert cluster.stdout is not None
        yield cluster.stdout.readline().strip()
        cluster.communicate(timeout=60)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> WorkStealingScheduling:
    """Give each process neighbouring tests, which share fixtures; one that has ended takes over from another."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run simulations in full, for about half an hour")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``slow``, unless it is asked for."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="runs with --slow"))


@pytest.fixture(scope="session")
def slow(request: pytest.FixtureRequest) -> bool:
    """Whether to run simulations in full, not in the reduced form."""
    return request.config.getoption("--slow")
