"""The network: what it is made of."""
