"""The engines: detection, and sums over apertures, each in its own way."""
