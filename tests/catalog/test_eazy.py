"""Catalogues for eazy-py: what is written, and that eazy-py itself finds bands, fluxes and errors in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable

from dja_photplug.catalog.eazy import EAZY_FILTERS, filter_number, write_eazy
from dja_photplug.errors import PhotplugError, PhotplugWarning
from dja_photplug.files.names import ProductName
from tests.helpers import write_eazy_inputs

BANDS = {"f606w": 236, "f606wu": 214, "f115wn": 351, "f115w": 364, "f444w": 377, "f250m": 379, "nrca_f250m": 379}


def make_catalog(bands: list[str], kind: tuple[str, str] = ("_tot_1", "_etot_1")) -> QTable:
    table = QTable({"id": [4, 2, 9], "ra": [34.1, 34.2, 34.3] * u.deg, "dec": [-5.1, -5.2, -5.3] * u.deg})
    for i, band in enumerate(bands, start=1):
        table[band + kind[0]] = np.array([1.0, -0.5, 30.0]) * i * u.uJy
        table[band + kind[1]] = np.array([0.1, 0.2, 0.3]) * i * u.uJy
    table.meta["PRESET"] = "dja"
    return table


def test_bands_of_the_archive_have_numbers(data: Path) -> None:
    """All filters of release v7 but dispersed images and WFC3/UVIS F850LP, which eazy has not."""
    names = (data / "dja_v7_names_sample.txt").read_text().split()
    products = [product for product in map(ProductName.parse, names) if product]
    bands = {product.band for product in products if product.filter != "ir"}
    without = {band for band in bands if filter_number(band) is None}
    assert len(bands) > 60
    assert {band for band in without if "_gr" not in band} == {"f850lpu"}


def test_numbers_are_those_of_eazy() -> None:
    """Spot checks against FILTER.RES.latest.info, one of each instrument at least."""
    expected = {"f160w": 205, "f336wu": 209, "f814wu": 217, "f435w": 233, "f814w": 239, "f850lp": 240, "f350lpu": 339}
    expected |= {"f480mn": 361, "f070w": 362, "f150w2_f162m": 369, "f212n": 374, "f277w": 375, "f480m": 386}
    expected |= {"f444w_f470n": 390, "f770w": 396, "f2550w": 403, "f139m": 404}
    assert {band: EAZY_FILTERS[band] for band in expected} == expected
    assert len(set(EAZY_FILTERS.values())) == len(EAZY_FILTERS)


def test_files_hold_fluxes_in_ujy(tmp_path: Path) -> None:
    catalog = make_catalog(["f115w", "f444w"])
    catalog["f115w_tot_1"] = catalog["f115w_tot_1"].to(u.nJy)
    catalog["f444w_tot_1"][1] = np.nan * u.uJy
    catalog["f115w_etot_1"][2] = 0 * u.uJy
    catalog["z_spec"] = MaskedColumn([0.5, np.nan, 3], mask=[False, False, True])
    files = write_eazy(catalog, tmp_path / "cat.fits")
    assert [path.name for path in files] == ["cat.fits", "zphot.translate", "zphot.param"]
    read = QTable.read(files[0])
    assert read.colnames[:6] == ["id", "ra", "dec", "z_spec", "f115w_tot_1", "f115w_etot_1"]
    np.testing.assert_allclose(read["f115w_tot_1"].value, [1, -0.5, -99], rtol=1e-15)  # nJy to uJy in doubles
    assert read["f115w_etot_1"].value.tolist() == [0.1, 0.2, -99]
    assert read["f444w_tot_1"].value.tolist() == [2, -99, 60]
    assert read["f444w_tot_1"].unit == u.uJy
    assert read["z_spec"].tolist() == [0.5, -1, -1]
    assert read.meta["PRESET"] == "dja"
    assert files[1].read_text() == "f115w_tot_1 F364\nf115w_etot_1 E364\nf444w_tot_1 F377\nf444w_etot_1 E377\n"
    assert dict(line.split() for line in files[2].read_text().splitlines())["PRIOR_ABZP"] == "23.9"


def test_fluxes_fall_back_for_all_bands_together(tmp_path: Path) -> None:
    catalog = make_catalog(["f115w", "f444w"], ("_flux_auto", "_fluxerr_auto"))
    catalog["f444w_corr_1"], catalog["f444w_ecorr_1"] = catalog["f444w_flux_auto"], catalog["f444w_fluxerr_auto"]
    files = write_eazy(catalog, tmp_path / "cat.cat")
    assert "f444w_flux_auto F377" in files[1].read_text()
    catalog["f115w_corr_1"], catalog["f115w_ecorr_1"] = catalog["f115w_flux_auto"], catalog["f115w_fluxerr_auto"]
    catalog["f090w_flux_auto"] = catalog["f115w_flux_auto"]  # without an error: no band
    files = write_eazy(catalog, tmp_path / "cat.cat", overwrite=True)
    assert "flux_auto" not in files[1].read_text()
    catalog["f090w_fluxerr_auto"] = catalog["f115w_fluxerr_auto"]
    del catalog["f115w_corr_1"]
    catalog["f200w_corr_1"], catalog["f200w_ecorr_1"] = catalog["f444w_corr_1"], catalog["f444w_ecorr_1"]
    with pytest.warns(PhotplugWarning, match="f200w left out: no fluxes like f115w_flux_auto"):
        write_eazy(catalog, tmp_path / "cat.cat", overwrite=True)


def test_bands_unknown_to_eazy_are_told(tmp_path: Path) -> None:
    catalog = make_catalog(["f444w", "f444w_grismr"])
    with pytest.warns(PhotplugWarning, match=r"no filter for f444w_grismr: in the catalogue, but not in zphot\.trans"):
        files = write_eazy(catalog, tmp_path / "a.fits")
    assert "grism" not in files[1].read_text()
    assert "f444w_grismr_tot_1" in QTable.read(files[0]).colnames
    files = write_eazy(catalog, tmp_path / "a.fits", filters={**EAZY_FILTERS, "f444w_grismr": 377}, overwrite=True)
    assert "f444w_grismr_tot_1 F377a" in files[1].read_text()


@pytest.mark.parametrize(
    ("catalog", "name", "words"),
    [
        (make_catalog(["f850lpu"]), "a.fits", "eazy has no filter for f850lpu; give their numbers"),
        (make_catalog([]), "a.fits", "no band fluxes with errors, such as f444w_tot_1"),
        (make_catalog(["f444w"])["ra", "dec", "f444w_tot_1", "f444w_etot_1"], "a.fits", "no column id, which eazy"),
        (make_catalog(["f444w"]), "a.txt", r"suffix must be one of \.fits, \.cat; rename it"),
        (make_catalog(["f444w"]), "fits.cat", "every name with 'fits' in it as FITS"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, catalog: QTable, name: str, words: str) -> None:
    with pytest.raises(PhotplugError, match=words):
        write_eazy(catalog, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_translate_file_of_another_catalog_is_kept(tmp_path: Path) -> None:
    (tmp_path / "zphot.translate").write_text("mine")
    with pytest.raises(PhotplugError, match=r"zphot\.translate: already exists"):
        write_eazy(make_catalog(["f444w"]), tmp_path / "a.fits")
    assert [path.name for path in tmp_path.iterdir()] == ["zphot.translate"]


@pytest.mark.fitters
@pytest.mark.filterwarnings("ignore")  # eazy-py's own
@pytest.mark.parametrize("suffix", [".fits", ".cat"])
def test_eazy_reads_bands_fluxes_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    photoz = pytest.importorskip("eazy.photoz", reason="needs eazy-py: pip install 'dja_photplug[fitters]'")
    catalog = make_catalog(list(BANDS))
    catalog["f444w_tot_1"][1] = np.nan * u.uJy
    catalog["f606w_etot_1"][2] = np.nan * u.uJy
    write_eazy(catalog, tmp_path / f"cat{suffix}")
    monkeypatch.chdir(tmp_path)
    parameters = {**write_eazy_inputs(tmp_path), "Z_STEP": 0.2, "Z_MAX": 1.0, "SYS_ERR": 0.0}
    fit = photoz.PhotoZ(
        param_file="zphot.param", translate_file="zphot.translate", params=parameters, load_prior=False, n_proc=0
    )
    assert fit.flux_columns == [f"{band}_tot_1" for band in BANDS]
    assert fit.err_columns == [f"{band}_etot_1" for band in BANDS]
    assert fit.f_numbers.tolist() == list(BANDS.values())
    assert [f.name.split()[0] for f in fit.filters] == [f"tophat-{number}" for number in BANDS.values()]
    assert np.asarray(fit.OBJID).tolist() == [4, 2, 9]
    assert np.asarray(fit.ZSPEC).tolist() == [-1, -1, -1]
    np.testing.assert_array_equal(fit.RA, catalog["ra"].value)
    expected = np.ones((3, len(BANDS)), dtype=bool)
    expected[1, list(BANDS).index("f444w")] = expected[2, list(BANDS).index("f606w")] = False
    np.testing.assert_array_equal(fit.ok_data, expected)
    for i, band in enumerate(BANDS):
        good = expected[:, i]
        # eazy-py keeps float32.
        np.testing.assert_array_equal(fit.fnu[good, i], catalog[f"{band}_tot_1"].value[good].astype("f4"))
        np.testing.assert_array_equal(fit.efnu_orig[good, i], catalog[f"{band}_etot_1"].value[good].astype("f4"))
    assert (fit.fnu[~expected] == -99).all()
    assert fit.to_uJy == 1
    fit.fit_catalog(n_proc=0, prior=False, beta_prior=False)
    assert np.isfinite(fit.zbest).all()
