"""The models, by name. Each is one file and offers `make_training_batch`, a loss as `forward`, and what its
decoder needs.
"""
