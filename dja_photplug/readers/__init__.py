"""The formats of tables that are not written here: which one a file is, and its table."""
