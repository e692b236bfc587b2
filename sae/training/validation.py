"""How a dictionary does on a fixed sample that it is not trained on. It draws nothing and changes nothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.dictionary import Dictionary

_N_AT_ONCE = 2048


@torch.no_grad()
def validation_scores(dictionary: Dictionary, batch: Float[Tensor, "token column"]) -> dict[str, float]:
    """FVU, mean active latents and the share of latents that fire on none of the tokens.

    Args:
        dictionary: in the units of the model.
        batch: activations of the validation split, in the same units; a transcoder's with its target's beside.
    """
    x, target = batch[:, : dictionary.d_in], batch[:, -dictionary.d_out :]
    left, active = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    fired = torch.zeros(dictionary.d_sae, dtype=torch.bool, device=dictionary.b_dec.device)
    for rows, wanted in zip(x.split(_N_AT_ONCE), target.split(_N_AT_ONCE), strict=True):
        rows, wanted = rows.to(dictionary.b_dec.device), wanted.to(dictionary.b_dec.device)
        code = dictionary.encode(rows)
        y = dictionary.with_skip(dictionary.decode(code), rows)
        left += (wanted - y).double().square().sum().cpu()
        active += code.l0().double().sum().cpu()
        fired |= code.fired()
    variance = (target.double() - target.double().mean(0)).square().sum()
    return {
        "validation_fvu": float(left / variance),
        "validation_l0": float(active / len(x)),
        "validation_dead_fraction": float((~fired).double().mean()),
        "validation_n_tokens": float(len(x)),
    }
