"""Response log-probabilities, losses, the reference store and metrics."""
