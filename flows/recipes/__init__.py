"""The recipes that ship."""
