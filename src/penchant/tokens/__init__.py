"""From chat turns to ids, with the border between prompt and response known exactly."""
