"""Whether it worked: judges, preference accuracy, divergence and statistics."""
