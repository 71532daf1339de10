"""Pages from WARC and ARC files."""
