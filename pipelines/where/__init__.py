"""Conditions on the columns of a table."""
