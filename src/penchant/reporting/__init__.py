"""One HTML file made from a run directory."""
