"""Bundles: everything that a trained run needs to recommend, in one folder outside a workspace."""
