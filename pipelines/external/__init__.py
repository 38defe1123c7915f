"""Recommendation lists of other programs: their files, read as entries of a data set's users and items."""
