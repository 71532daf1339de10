"""What models are measured by, and compared with."""
