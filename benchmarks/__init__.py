"""Scripts that print a ratio; see README.md."""
