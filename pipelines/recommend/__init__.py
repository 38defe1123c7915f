"""Use of a trained run: recommendations, similar items, explanations. This room needs polars."""
