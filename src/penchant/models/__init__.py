"""Loading, freezing, the attention over packed rows, the trunk split, and saving."""
