"""Bands brought to one PSF: kernels, images convolved with them, and the noise of what is measured there."""
