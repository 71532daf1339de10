"""The page of a run: one HTML file that a person can judge by eye, without scripts and without a network."""
