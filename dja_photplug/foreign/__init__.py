"""Catalogues of others: what their columns mean, which catalogue is whose, and ours in their words."""
