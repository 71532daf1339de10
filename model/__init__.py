"""The network, its objectives, and the one training loop."""
