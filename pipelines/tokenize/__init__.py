"""Stage "tokenize": embeddings become semantic IDs, with a report on their quality."""
