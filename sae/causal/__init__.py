"""Causal tests: what changes in a model when a latent is removed, or set as in the counterfactual twin."""
