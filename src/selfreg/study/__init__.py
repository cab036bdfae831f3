"""Studies: arms x seeds, trained and compared with intervals."""
