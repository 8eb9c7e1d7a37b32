"""Second, independent writings of what the package computes, in float64 NumPy and from the papers alone; and the
models and cases that our step and TRL's are compared on."""
