"""Text as such: how its bytes are read, how it is made clean, and which language it is in."""
