"""``python -m dja_photplug`` is ``dja-photplug``."""

import sys

from dja_photplug.cli.app import main

sys.exit(main())
