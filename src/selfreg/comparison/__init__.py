"""Two or more runs, or folders of predictions, compared on the same images."""
