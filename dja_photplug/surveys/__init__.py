"""Surveys: many fields from a list, a catalogue of each, made again only where something changed."""
