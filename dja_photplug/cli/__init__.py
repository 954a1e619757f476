"""The command ``dja-photplug``."""
