"""What is summed over apertures and segments, and the planes it is summed of."""
