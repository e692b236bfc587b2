"""Activations on disk: harvested into HDF5 shards, read back in order or shuffled. `FORMAT.md` is normative."""
