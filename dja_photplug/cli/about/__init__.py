"""Commands that take no mosaic: a demonstration of the program, its plugins, and what the archive has."""
