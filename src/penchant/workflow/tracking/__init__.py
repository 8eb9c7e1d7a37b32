"""Sending a run's figures to trackers: trackio, TensorBoard, W&B; while it runs, and afterwards."""
