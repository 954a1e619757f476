"""The kinds of catalogues that are known, one after the other."""

from __future__ import annotations

from dja_photplug.foreign.schema import CatalogSchema, ShapeColumns

__all__ = ["OURS", "PLAIN", "SCHEMAS", "is_ours"]

_OURS = ShapeColumns(a="a", b="b", theta=("theta",), unit="arcsec")
_SEP = ShapeColumns(a="a_image", b="b_image", theta=("theta_image",), angle="rad")
_GRIZLI_SCALES = ("ASEC_0/APER_0",)

OURS = CatalogSchema(
    name="photplug",
    title="ours, as `catalog` and `extend` write them",
    marks=("ra", "dec", "a", "b", "theta", "kron_radius", "mask_frac", "flux_iso"),
    ids=("id",),
    position=(("ra", "dec"),),
    shapes=(_OURS,),
)
"""Our own."""

PLAIN = CatalogSchema(
    name="plain",
    title="any table with positions; shapes, fluxes and ids as in ours, in units that it tells",
    shapes=(_OURS,),
)
"""What is left: no marks, and all that is used is named as ours, or as people usually do."""

SCHEMAS = (
    OURS,
    CatalogSchema(
        name="dja",
        title="the archive's `_phot_apcorr.fits`, and `_phot.fits` with aperture corrections",
        marks=("id", "a_image", "b_image", "theta_image", "kron_rcirc", "apcorr_0"),
        position=(("ra", "dec"), ("x_world", "y_world")),
        places=(("x", "y"),),
        shapes=(_SEP,),
        flux_unit="uJy",
        scales=_GRIZLI_SCALES,
        missing=(-99.0,),
    ),
    CatalogSchema(
        name="dja-phot",
        title="the archive's `_phot.fits`",
        marks=("id", "a_image", "b_image", "theta_image", "kron_rcirc"),
        lacks=("apcorr_0",),
        position=(("ra", "dec"), ("x_world", "y_world")),
        places=(("x", "y"),),
        shapes=(_SEP,),
        flux_unit="uJy",
        scales=_GRIZLI_SCALES,
        missing=(-99.0,),
    ),
    CatalogSchema(
        name="grizli",
        title="grizli's `.cat.fits` of one image",
        marks=("number", "a_image", "b_image", "theta_image", "kron_rcirc"),
        lacks=("id",),
        position=(("ra", "dec"), ("x_world", "y_world")),
        ids=("number",),
        places=(("x", "y"),),
        shapes=(_SEP,),
        flux_unit="uJy",
        scales=_GRIZLI_SCALES,
        missing=(-99.0,),
    ),
    CatalogSchema(
        name="sextractor",
        title="SExtractor's ASCII_HEAD, FITS_1.0 and FITS_LDAC",
        marks=(
            "(alpha|alphawin|alphapeak|x|xwin)_(j2000|world|sky)",
            "(delta|deltawin|deltapeak|y|ywin)_(j2000|world|sky)",
        ),
        lacks=("kron_rcirc", "use_aper"),
        position=(
            ("alpha_j2000", "delta_j2000"),
            ("alphawin_j2000", "deltawin_j2000"),
            ("alpha_sky", "delta_sky"),
            ("x_world", "y_world"),
            ("xwin_world", "ywin_world"),
        ),
        ids=("number", "id"),
        places=(("x_image", "y_image"), ("xwin_image", "ywin_image")),
        origin=1,
        shapes=(
            ShapeColumns(a="a_world", b="b_world", theta=("theta_j2000", "theta_sky"), unit="deg", zero="north"),
            ShapeColumns(a="a_image", b="b_image", theta=("theta_image",)),
        ),
        zero_point="SEXMGZPT",
        scales=("SEXPIXS",),
        missing=(-99.0, 99.0),
        hdu="LDAC_OBJECTS",
    ),
    CatalogSchema(
        name="super",
        title="the SUPER catalogues of UNCOVER and MINERVA",
        marks=("id", "use_phot", "use_aper", "tot_cor", "kron_radius", "a_image", "b_image"),
        position=(("ra", "dec"),),
        ids=("id",),
        # Named after J2000, but as sep gives it: from +x of the detection image.
        shapes=(ShapeColumns(a="a_image", b="b_image", theta=("theta_image", "theta_j2000")),),
        auto="fauto_f444w",
        auto_error="",
        aperture="",
        zero_point="PHOT_ZP",
        scales=("PIXSCALE",),
        missing=(-99.0,),
    ),
    CatalogSchema(
        name="jades",
        title="those of JADES, releases 2 to 5: of their extensions SIZE is read",
        marks=("id", "ra", "dec", "a", "b", "(pa|theta)", "npix_det", "bbox_xmin"),
        position=(("ra", "dec"),),
        ids=("id",),
        shapes=(ShapeColumns(a="a", b="b", theta=("pa", "theta"), unit="arcsec"),),
        kron="",  # in release 5 R_KRON_U, in nJy as its unit says
        radius=("f444w_rhalf",),
        auto="",
        auto_error="",
        aperture="",
        missing=(-99.0,),
        hdu="SIZE",
    ),
    CatalogSchema(
        name="photutils",
        title="photutils' `SourceCatalog.to_table()`",
        marks=("semimajor_(axis|sigma)", "semiminor_(axis|sigma)", "orientation", "segment_flux"),
        position=(("sky_centroid.ra", "sky_centroid.dec"), ("ra", "dec")),
        ids=("label", "id"),
        places=(("x_centroid", "y_centroid"), ("xcentroid", "ycentroid"), ("x", "y")),
        shapes=(
            ShapeColumns(a="semimajor_axis", b="semiminor_axis", theta=("orientation",)),
            ShapeColumns(a="semimajor_sigma", b="semiminor_sigma", theta=("orientation",)),
        ),
        kron_factor=2.5,
        kron_key="kron_params",
        radius=("half_light_radius", "fluxfrac_radius", "r50"),
        auto="kron_flux",
        auto_error="kron_fluxerr",
        aperture="",
    ),
    CatalogSchema(
        name="jwst",
        title="the JWST pipeline's `_cat.ecsv`",
        marks=("label", "isophotal_flux", "orientation", "semimajor_(axis|sigma)", "aper_total_flux"),
        lacks=("segment_flux",),
        position=(("sky_centroid.ra", "sky_centroid.dec"), ("ra", "dec")),
        ids=("label",),
        places=(("x_centroid", "y_centroid"), ("xcentroid", "ycentroid")),
        shapes=(
            ShapeColumns(a="semimajor_sigma", b="semiminor_sigma", theta=("orientation",)),
            ShapeColumns(a="semimajor_axis", b="semiminor_axis", theta=("orientation",)),
        ),
        kron="",
        radius=(),
        auto="aper_total_flux",
        auto_error="aper_total_flux_err",
        aperture="",
        flux_unit="Jy",
    ),
)
"""Kinds of catalogues that are recognised by their columns; no two fit one of the real ones."""


def is_ours(schema: CatalogSchema) -> bool:
    """Return whether the columns of a schema are named as ours.

    Parameters
    ----------
    schema : CatalogSchema

    Returns
    -------
    bool
    """
    return schema in (OURS, PLAIN)
