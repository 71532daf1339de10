"""Where pages come from: one file per kind of source."""
