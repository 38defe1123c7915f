"""The models, by name. Each is one file and offers `draw`, a loss as `forward`, and what its decoder needs."""
