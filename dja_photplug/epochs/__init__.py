"""The WCS log: which exposures saw a position, when, for how long, at what angle."""
