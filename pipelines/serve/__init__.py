"""The HTTP service of a trained run. This room needs polars and the extra `serve`."""
