"""A mosaic as one NDData: loading, full weight, stacks."""
