"""From products to tables: the order in which plugins are asked."""
