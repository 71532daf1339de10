"""Parts of ``make bench-train``."""
