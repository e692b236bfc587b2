"""Folding a uniform input scale into a dictionary.

Trained on s·x, a dictionary gives z = act((s·x − b_dec) W_enc + b_enc) and y = (z W_dec + b_dec) / s. Since TopK and
ReLU are positively homogeneous, dividing both biases by s gives the same map of x itself, with codes z / s in the
units of the model and matrices unchanged.
"""

import torch

from sae.dictionary.dictionary import Dictionary


def fold(dictionary: Dictionary, scale: float) -> Dictionary:
    """The same map in the units of the unscaled input; a new dictionary.

    Args:
        dictionary: trained on `scale * x`.
        scale: what the input was multiplied by, positive.
    """
    assert scale > 0
    folded = Dictionary(dictionary.config).to(dictionary.b_dec)
    folded.load_state_dict(dictionary.state_dict())
    with torch.no_grad():
        folded.b_enc.div_(scale)
        folded.b_dec.div_(scale)
    return folded
