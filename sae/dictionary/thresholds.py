"""ReLU, JumpReLU and gates: activations that say of each latent alone whether it fires.

    ReLU       z = h · H(h)                                  Bricken et al. 2023, "Towards monosemanticity"
    JumpReLU   z = h · H(h − θ)                              `sae.dictionary.jumprelu`
    gate       z = ReLU(exp(r) · (h − b_enc) + b) · H(h)     Rajamanoharan et al. 2024, arXiv:2404.16014

Of pairs only those are kept that fire, or whose step has a gradient: JumpReLU's within half a bandwidth of the
threshold; where these are many they are marked (`sae.dictionary.near`). Each function has the same values and
gradients with pairs as with the whole of h.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary.jumprelu import active, jump
from sae.dictionary.linear import Encoded, Linear
from sae.dictionary.near import Near
from sae.kernels import DenseCode, RaggedCode

FIRING_SHARE = 1 / 6
"""Share of pairs up to which they are the faster way, where all of them are decoded (d 512, d_sae 8192)."""
NEAR_SHARE = 1 / 3
"""The same where most of them only give thresholds a gradient."""
PAIRED_SHARE = 1 / 12
"""Share of pairs up to which these are faster as pairs than as marks."""


def relu(linear: Linear) -> Encoded:
    """Every positive pre-activation."""
    nothing = torch.zeros_like(linear.bias)
    if not linear.is_rarely_above(nothing, FIRING_SHARE):
        code = DenseCode(linear.whole().relu())
        return Encoded(code, code)
    held = linear.above(nothing)
    code = replace(held, values=held.values.relu())
    return Encoded(code, code)


def jumprelu(linear: Linear, threshold: Float[Tensor, "d_sae"], bandwidth: float, marks: bool = False) -> Encoded:
    """Every pre-activation above its threshold, whose gradient goes through a rectangle of that width.

    With `marks` those near it that do not fire may be marked (`Encoded.near`) instead of being pairs of value zero.
    """
    floor = threshold.detach() - bandwidth / 2
    near, firing = linear.shares_above(floor, threshold)
    if marks and near > PAIRED_SHARE and firing <= FIRING_SHARE:
        held, between = linear.above_and_between(floor, threshold)
        return _jumped(held, threshold, bandwidth)._replace(near=Near(between, threshold, bandwidth))
    if near > NEAR_SHARE:
        pre = linear.whole()
        return Encoded(DenseCode(jump(pre, threshold, bandwidth)), DenseCode(active(pre, threshold, bandwidth)))
    return _jumped(linear.above(floor), threshold, bandwidth)


def _jumped(held: RaggedCode, threshold: Float[Tensor, "d_sae"], bandwidth: float) -> Encoded:
    theirs = threshold.index_select(0, held.indices)
    values, steps = jump(held.values, theirs, bandwidth), active(held.values, theirs, bandwidth)
    return Encoded(replace(held, values=values), replace(held, values=steps))


def gated(linear: Linear, r_mag: Float[Tensor, "d_sae"], b_mag: Float[Tensor, "d_sae"]) -> Encoded:
    """Rescaled pre-activations where the gate is open; the step stops what would reach the gate's bias."""
    bias, nothing = linear.bias, torch.zeros_like(linear.bias)
    if not linear.is_rarely_above(nothing, FIRING_SHARE):
        pre = linear.whole()
        size = r_mag.exp() * (pre - bias) + b_mag
        return Encoded(DenseCode(size.relu() * (pre > 0)), DenseCode(pre.relu()))
    held = linear._replace(bias=bias.detach()).above(nothing)
    scale, offset, biases = (v.index_select(0, held.indices) for v in (r_mag.exp(), b_mag, bias))
    size = scale * (held.values - biases.detach()) + offset
    gate = held.values + (biases - biases.detach())  # the bias's gradient, which the sizes do not have
    return Encoded(replace(held, values=size.relu() * (held.values > 0)), replace(held, values=gate.relu()))
