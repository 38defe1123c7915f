"""Views for a reader: the curves of a run and its departures from its preset, and what codes mean."""
