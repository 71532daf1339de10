"""Where pages, and pairs of prompt and response, come from: one file per kind of source."""
