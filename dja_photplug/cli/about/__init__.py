"""Commands about the program itself: a demonstration of it, and its plugins."""
