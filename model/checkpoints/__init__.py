"""What a killed run continues from, and what it publishes on the way."""
