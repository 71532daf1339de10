"""Models at work: what they write, and the loss that they have on texts."""
