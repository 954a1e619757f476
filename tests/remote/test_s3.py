"""Mosaics in a bucket of S3, as moto's server has it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dja_photplug as dp
from dja_photplug.archive.releases import list_fields, list_filters
from dja_photplug.errors import PhotplugError
from dja_photplug.remote import transport
from dja_photplug.remote.paths import as_path
from dja_photplug.simulate.mosaic import SimulatedMosaic

NAME = "sim-test-v7.4-f444w-clear"
FOLDER = "s3://archive/v7"


@pytest.fixture(scope="module")
def bucket(simulated: SimulatedMosaic) -> Iterator[None]:
    """A public bucket with the products of a mosaic."""
    boto3, s3fs = pytest.importorskip("boto3"), pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3", aws_access_key_id="nobody", aws_secret_access_key="nothing")
        client.create_bucket(Bucket="archive")
        for path in simulated.prefix.parent.glob(f"{NAME}_*"):
            content = path.read_bytes()
            client.put_object(Bucket="archive", Key=f"v7/{path.name}", Body=content, ACL="public-read")
        yield
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()  # which know the server


@pytest.mark.usefixtures("bucket")
def test_bucket_is_fetched_listed_and_cut_out_of(
    simulated: SimulatedMosaic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "PIECE", 100_000)
    here = dp.find_mosaic(simulated.prefix)
    remote = dp.find_mosaic(f"{FOLDER}/{NAME}_drc_sci.fits.gz")
    assert str(remote) == f"{FOLDER}/{NAME}"
    part = (slice(100, 140), slice(200, 260))
    stamp = dp.load_mosaic(remote, "calibrated", part)
    np.testing.assert_array_equal(stamp.uncertainty.array, dp.load_mosaic(here, "calibrated", part).uncertainty.array)
    # What a process left that was killed is gone on with.
    folder, before = tmp_path / "here", transport.bytes_moved()
    folder.mkdir()
    content, version = here.science.read_bytes(), transport.describe(str(remote.science)).version
    (folder / f".{version}.part-{here.science.name}").write_bytes(content[:-70_000])
    [fetched] = dp.fetch("sim-test-v7.4", ["f444w"], folder, base_url=FOLDER)
    assert fetched.science.read_bytes() == content
    others = sum(path.stat().st_size for path in (here.weight, here.exposure, here.log))
    assert transport.bytes_moved() - before == others + 70_000
    assert list_fields(as_path(FOLDER)) == {"sim-test-v7.4": 1}
    assert list_filters(as_path(FOLDER), "sim-test-v7.4") == ["f444w-clear"]
    with pytest.raises(PhotplugError, match=f"no such mosaic; did you mean {FOLDER}/{NAME}"):
        dp.find_mosaic(f"{FOLDER}/sim-test-v7.4-f440w-clear")
    with pytest.raises(PhotplugError, match="s3://nowhere/v7: cannot be listed"):
        list_fields(as_path("s3://nowhere/v7"))
