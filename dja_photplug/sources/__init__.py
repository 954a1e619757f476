"""Sources of one image: detection, photometry, and the calibration of errors."""
