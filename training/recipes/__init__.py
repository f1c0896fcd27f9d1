"""One recipe a network: from a batch to a loss, and what its validation measures."""
