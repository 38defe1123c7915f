"""Growth of a data set: new items after the old ones, with their embeddings and semantic IDs."""
