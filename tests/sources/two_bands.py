"""Two bands of one scene with the PSFs of 1.15 and 4.44 um: those of docs/scripts/matched_truth.py."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "scripts" / "matched_truth.py"

_spec = spec_from_file_location(SCRIPT.stem, SCRIPT)
assert _spec is not None
assert _spec.loader is not None
truth = module_from_spec(_spec)
sys.modules[SCRIPT.stem] = truth  # where dataclasses look for their annotations
_spec.loader.exec_module(truth)
