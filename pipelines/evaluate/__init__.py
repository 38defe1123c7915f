"""Leave-one-out, ranks and metrics: how good the recommendations are."""
