"""What light of an image is whose: shapes and sums, the wings of sources, how well they are known, and cleaning."""
