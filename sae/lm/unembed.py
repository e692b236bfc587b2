"""What a direction of the last residual does to the logits, apart from the final norm's scale.

A norm is x ↦ (x − mean x)/σ · γ + β (LayerNorm) or x/σ · γ (RMSNorm), so with the head W

    logits = x/σ · W' + constant,   W' = diag(γ) W, minus its mean over d_model for a LayerNorm.

W' is centred over the vocabulary too: that shifts all logits by the same amount, which no probability sees. A final
soft-cap is left out: it is monotone.
"""

from jaxtyping import Float
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm.families import family_of, model_type_of
from sae.lm.load import Model, module_of
from sae.lm.weights import weight_of


def unembedding(model: Model) -> Float[Tensor, "d_model vocab"]:
    """W' as above, float32: effects on the logits per unit of the residual over σ.

    Raises:
        InputError: more than a norm lies between the last residual and the head, so no one direction has one effect.
    """
    module = module_of(model)
    family = family_of(module)
    if not family.final_norm or not family.causal:
        raise InputError(
            f"a direction's effect on the logits needs a norm and a linear head after the last residual; this "
            f"{model_type_of(module)} has more, or no norm"
        )
    norm, head = module.get_submodule(family.final_norm), module.get_submodule(family.head)
    weight = weight_of(head).float().T * (weight_of(norm).float() + family.norm_offset)[:, None]
    if isinstance(norm, nn.LayerNorm):
        weight = weight - weight.mean(dim=0, keepdim=True)
    return weight - weight.mean(dim=1, keepdim=True)


def logit_effects(model: Model, directions: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
    """Change of each logit, relative to their mean, per unit step along each direction at σ = 1."""
    weight = unembedding(model)
    return directions.to(weight) @ weight
