"""Several runs side by side: comparisons, the demonstration, and studies of arms and seeds."""
