"""The planes that are measured: where sources are, the sky and its level, smoothed light, and what stands out of it."""
