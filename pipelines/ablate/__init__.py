"""Tables and figures from many runs: recipes, the grid that makes them true, and the report."""
