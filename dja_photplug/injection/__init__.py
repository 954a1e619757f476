"""Injection and recovery: sources of known flux in real images."""
