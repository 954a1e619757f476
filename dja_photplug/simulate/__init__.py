"""Simulated mosaics with truth: a scene, exposures of it, and the products drizzled from them."""
