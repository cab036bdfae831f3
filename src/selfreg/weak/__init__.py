"""From image-level tags to pseudo masks: classifier, class activation maps, refinement, masks, stage by stage."""
