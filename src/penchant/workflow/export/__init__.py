"""A finished policy to a folder that others open, and the proof that they open the same policy."""
