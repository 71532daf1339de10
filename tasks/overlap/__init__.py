"""Passages of evaluation sets in documents: word n-grams in common, found by hashes and verified word by word."""
