"""Catalogues that exist already: read them, add columns, keep all the rest as it was."""
