"""Judgements of people about documents: the sample they see, what they say, and what follows from it."""
