"""Second, independent writings of what the package computes, in float64 NumPy and from the papers alone."""
