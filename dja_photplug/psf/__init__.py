"""The PSF: images of it, its curve of growth, and stamps."""
