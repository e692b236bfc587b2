"""Sparse data with a known dictionary: what a trained one must give back."""

from sae.synthetic.directions import Synthetic, SyntheticConfig
from sae.synthetic.recovery import mean_max_cosine

__all__ = ["Synthetic", "SyntheticConfig", "mean_max_cosine"]
