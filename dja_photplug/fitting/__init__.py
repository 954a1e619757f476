"""Stamps for fitting codes: what they hold, and how each code wants it."""
