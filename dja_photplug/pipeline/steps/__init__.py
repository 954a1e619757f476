"""One image: what is done with it, in which order, and what comes of it."""
