"""Sparse data with a known dictionary: what a trained one must give back."""

from sae.synthetic.directions import Synthetic, SyntheticConfig
from sae.synthetic.recovery import mean_max_cosine
from sae.synthetic.scores import Estimate, TruthScores, controls, truth_scores
from sae.synthetic.truth import Stream, Truth, load_truth
from sae.synthetic.truth_config import SHAPES, TruthConfig, shape

__all__ = [
    "SHAPES",
    "Estimate",
    "Stream",
    "Synthetic",
    "SyntheticConfig",
    "Truth",
    "TruthConfig",
    "TruthScores",
    "controls",
    "load_truth",
    "mean_max_cosine",
    "shape",
    "truth_scores",
]
