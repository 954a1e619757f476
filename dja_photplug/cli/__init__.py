"""The command ``dja-photplug``: its parser, and the commands."""
