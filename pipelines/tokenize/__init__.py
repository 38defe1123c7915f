"""Embeddings → semantic IDs, and the report on how good those IDs are."""
