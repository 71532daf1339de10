"""What is done to the text of single documents: decoding, extraction, rules, personal data."""
