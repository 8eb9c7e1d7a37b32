"""A policy as one GGUF file: which families, what each tensor is called and how it is stored, and its tokenizer."""
