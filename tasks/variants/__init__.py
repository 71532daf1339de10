"""New texts from given ones: synonyms, translations there and back, and how close they stay to their source."""
