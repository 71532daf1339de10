"""What is known before a training begins: what it should be, what it will take, and what cannot work."""
