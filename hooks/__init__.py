"""Built-in hook implementations: each claims or declines, then calls one function of the library."""
