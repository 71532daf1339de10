"""How a collection goes on from the one before it."""
