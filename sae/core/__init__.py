"""Ground that everything stands on: configuration, artifacts, records, randomness, statistics."""
