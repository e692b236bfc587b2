"""The control that has read nothing: a model of the same shape with random weights.

Random weights still carry the identity of earlier tokens along the residual stream, so what a probe reads there is what
the words themselves give away; what the trained model adds lies above that (Zhang and Bowman 2018, arXiv:1809.10040).
"""

from dataclasses import replace

import torch

from sae.lm.fused import fuse_gelu
from sae.lm.load import LoadedModel


def untrained(loaded: LoadedModel, seed: int) -> LoadedModel:
    """The same architecture and tokenizer, weights as the architecture draws them before any training.

    Args:
        loaded: its configuration, dtype and device are kept; its weights are left alone.
        seed: of the weights; the global generator is left alone.
    """
    weights = next(loaded.model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(loaded.model)(loaded.config)
    fuse_gelu(model)
    model.requires_grad_(False).eval().to(device=weights.device, dtype=weights.dtype)
    return replace(loaded, model=model, fingerprint=f"untrained-{seed}", name=f"{loaded.name}, untrained")
