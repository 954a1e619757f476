"""Options: how one is declared, all of them, and where flags and TOML files give them."""
