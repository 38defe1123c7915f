"""items → embeddings: one vector per item from its text."""
