"""How good a dictionary is, beside simple alternatives, with an interval on every number."""
