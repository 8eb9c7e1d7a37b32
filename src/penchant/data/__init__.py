"""Preference data: rows, normalisers, the ledger, and the packaged house-style task."""
