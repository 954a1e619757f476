"""The archive on its server: where it is, which fields it has, and how their mosaics come to disk."""
