"""Batched sampling from any loaded model."""
