"""Work on whole images: planes that processes share, tiles, and the processes."""
