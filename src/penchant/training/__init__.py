"""The step, the loop, checkpoints and telemetry."""
