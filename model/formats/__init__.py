"""Models on disk: Hugging Face's folders, PEFT's adapters, and models that only transformers has."""
