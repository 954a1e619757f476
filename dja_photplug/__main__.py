"""``python -m dja_photplug`` is ``dja-photplug``."""

import sys

from dja_photplug.cli.app import console

sys.exit(console())
