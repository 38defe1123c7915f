"""Stage "embed": the text of each item becomes a vector."""
