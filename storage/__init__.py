"""Bytes: the store, the formats of what it holds, and identity."""
