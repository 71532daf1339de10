"""Personal data and secrets in text: their forms, where to look for them, and what to put in their place."""
