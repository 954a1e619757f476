"""The report of a catalogue: one page to look at it with, that needs no network; bokeh is an extra."""
