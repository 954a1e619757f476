"""An example of each command, for its help; all of them stand in the documentation, where they are run."""

from __future__ import annotations

__all__ = ["EXAMPLES", "show_example"]

EXAMPLES: dict[str, str] = {
    "catalog": """\
dja-photplug catalog data/uds-test-v7.4-f444w-clear -o cat.fits \\
    --segmentation seg.fits --regions cat.reg --plot cat.png""",
    "demo": "dja-photplug demo",
    "epochs": "dja-photplug epochs data/uds-test-v7.4-f444w-clear --position 34.3033 -5.1113",
    "extend": """\
dja-photplug extend cat.fits data/uds-test-v7.4-f115w-clear -o both.fits \\
    --use-segmentation seg.fits""",
    "fetch": "dja-photplug fetch smacs0723-grizli-v7.0 f444w-clear",
    "galfit": """\
dja-photplug galfit data/uds-test-v7.4-f444w-clear -o stamps \\
    --catalog cat.fits --use-segmentation seg.fits \\
    --psf data/psf-ceers-nrca5-f444w.fits --plot stamps.html""",
    "info": "dja-photplug info data/uds-test-v7.4-f444w-clear",
    "inject": """\
dja-photplug inject data/uds-test-v7.4-f444w-clear -o completeness.fits \\
    --plot completeness.png --realisations 4 --bin-width 0.5""",
    "plugins": "dja-photplug plugins",
    "psf": """\
dja-photplug psf stars data/ceers-test-v7.4-f444w-clear -o psf_stars.fits \\
    --plot psf_stars.png""",
    "report": "dja-photplug report cat.fits -o report.html --segmentation seg.fits",
    "survey": "dja-photplug survey fields.toml -o catalogues --segmentations",
    "weight": "dja-photplug weight data/uds-test-v7.4-f444w-clear -o full_wht.fits.gz",
}
"""Command lines by command."""


def show_example(command: str) -> str | None:
    """Return how the help of a command ends.

    Parameters
    ----------
    command : str

    Returns
    -------
    str or None
        None for the command of a plugin, which says it itself.
    """
    return f"example:\n  {EXAMPLES[command]}" if command in EXAMPLES else None
