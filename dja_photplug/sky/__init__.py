"""The grid of a mosaic: its WCS, windows on it, and labels from one grid to another."""
