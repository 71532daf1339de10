"""The network: what it is made of, and how it is cut over processes."""
