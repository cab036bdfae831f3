"""Self-regulation for semantic segmentation."""
