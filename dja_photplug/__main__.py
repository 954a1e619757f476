"""``python -m dja_photplug`` is ``dja-photplug``."""

import sys

from dja_photplug.cli import main

sys.exit(main())
