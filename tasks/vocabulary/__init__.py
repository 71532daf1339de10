"""What a tokenizer is trained on, written as, and judged by."""
