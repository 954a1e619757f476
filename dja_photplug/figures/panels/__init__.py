"""What several figures have: planes on the sky, graphs of errors, and fewer pixels than a mosaic has."""
