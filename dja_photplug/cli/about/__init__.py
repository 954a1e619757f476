"""Commands that take no mosaic: a demonstration, plugins, reports of what was made, and what the archive has."""
