"""Injected sources: how complete a catalogue is, to which magnitude, and how its fluxes compare with the truth."""
