"""Mosaics of the JWST pipeline for dja_photplug, and the error of the flat field; the hooks are in `hooks`."""
