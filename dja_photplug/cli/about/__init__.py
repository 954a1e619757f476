"""Commands about the program itself and what it made: a demonstration, its plugins, reports."""
