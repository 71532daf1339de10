"""Finding documents that are copies of each other."""
