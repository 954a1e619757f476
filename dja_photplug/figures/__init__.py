"""Figures; matplotlib is an extra and is imported where one is made."""
