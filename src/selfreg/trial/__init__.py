"""`selfreg try`: a study that configures itself, keeps to a time budget, and ends with a verdict."""
