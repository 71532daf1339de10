"""Encoding by byte-pair models in columns: each distinct segment of a text once."""
