"""Outputs of a run: whole, together, apart from its inputs; and folders that end with it."""
