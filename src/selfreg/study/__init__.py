"""Studies: several arms trained with several seeds, compared with confidence intervals."""
