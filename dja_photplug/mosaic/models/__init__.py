"""Noise models: electrons of light, exposure maps, the full weight, and models of parts of an image."""
