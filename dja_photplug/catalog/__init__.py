"""The catalogue: its columns, flags and metadata, and the formats of others."""
