"""Files in and out: names of the archive, pixels in blocks, tables, and outputs that appear whole."""
