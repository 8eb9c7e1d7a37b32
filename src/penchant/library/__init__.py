"""Penchant from Python: `train`, `score` and `evaluate`, as `penchant` itself offers them (docs/library.md)."""
