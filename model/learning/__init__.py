"""What is learnt and how: objectives, optimisers, learning rates."""
