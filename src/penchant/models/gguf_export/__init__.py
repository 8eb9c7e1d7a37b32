"""A policy as one GGUF file: which families, the name and form of each tensor, and the tokenizer."""
