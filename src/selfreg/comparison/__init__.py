"""Comparison of two or more runs, or folders of predictions, on the same images."""
