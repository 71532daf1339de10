"""Text classifiers; ``interface.load`` opens one of any make."""
