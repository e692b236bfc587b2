"""Directional ablation: a direction is removed from the whole model, by edits or in its weights.

The residual stream is a sum of what the embedding and every attention and MLP write. With V orthonormal rows spanning
the directions and P = I − VᵀV, the stream never holds them if every writer's output w becomes P w. Where a writer ends
in a linear map w = W h + b this is the same as

    W ← P W,   b ← P b        for the embeddings, every W_O and every W_down.

Edits of block outputs alone are another thing: inside a block the MLP still reads what attention has just written, and
the first block what the embedding has. They leave the model's predictions far from those of orthogonalised weights.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.intervention.direction import Direction
from sae.intervention.intervention import Intervention
from sae.intervention.operations import project_out
from sae.intervention.subspace import orthonormal, rows_of
from sae.lm.families import family_of, model_type_of, n_blocks
from sae.lm.family import INTO, Family
from sae.lm.hooks import reading
from sae.lm.load import Model, module_of

_N_TOKENS = 8


def writer_sites(model: Model) -> tuple[str, ...]:
    """The sites whose sum is the residual stream: the embedding and what every attention and MLP adds."""
    blocks = range(n_blocks(module_of(model)))
    return ("embed", *(f"blocks.{block}.{name}" for block in blocks for name in ("attn_out", "mlp_out")))


def directional_ablation(model: Model, directions: Direction | Float[Tensor, "k d_model"]) -> Intervention:
    """The edits that keep directions out of the residual stream: projections at every writer.

    In a family that norms the sum itself (BERT) the norms write too, and these edits do not reach them.

    Args:
        model: gives the number of blocks.
        directions: one direction, or any basis of what is removed.

    Raises:
        InputError: directions that do not span as many dimensions as they are.
    """
    return Intervention({site: [project_out(directions)] for site in writer_sites(model)})


@torch.no_grad()
def orthogonalised(model: Model, directions: Direction | Float[Tensor, "k d_model"]) -> nn.Module:
    """A copy of the model whose weights cannot write the directions; the head is kept, tied or not.

    Args:
        model: of a family whose writers end in plain linear maps; others need `directional_ablation`.
        directions: one direction, or any basis of what is removed.

    Raises:
        InputError: a writer that still writes the directions (a norm after it, quantised weights): names its site;
            directions of another width or linearly dependent.
    """
    copy = deepcopy(module_of(model))
    family, rows = family_of(copy), orthonormal(rows_of(directions).float())
    _untie(copy, family)
    for weight, axis in _writing_weights(copy, family, rows.shape[1]):
        _remove(weight, axis, rows)
    _check(copy, rows)
    return copy


def _untie(model: Any, family: Family) -> None:
    """The head reads the residual and keeps its weights where they were the embedding's too."""
    head = model.get_submodule(family.head)
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False


def _writing_weights(model: nn.Module, family: Family, d: int) -> Iterator[tuple[nn.Parameter, int]]:
    """Every weight that writes to the residual, and its axis along it."""
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.embedding_dim == d:
            yield module.get_parameter("weight"), 1
    for block in model.get_submodule(family.blocks).children():
        for path in (family.attn_heads, family.mlp_hidden):
            if path:
                yield from _of_linear(block.get_submodule(path.removeprefix(INTO)))
        if not family.mlp_hidden:
            experts = block.get_submodule(family.mlp_out).named_parameters()
            yield from ((weight, 1) for name, weight in experts if name.endswith("down_proj"))


def _of_linear(module: nn.Module) -> Iterator[tuple[nn.Parameter, int]]:
    """GPT-2 keeps its linear maps transposed."""
    weight, bias = module.get_parameter("weight"), getattr(module, "bias", None)
    yield weight, 0 if isinstance(module, nn.Linear) else 1
    if bias is not None:
        yield bias, 0


def _remove(weight: nn.Parameter, axis: int, rows: Float[Tensor, "k d"]) -> None:
    if not weight.is_floating_point() or weight.shape[axis] != rows.shape[1]:
        raise InputError(
            f"directions of width {rows.shape[1]} cannot be removed from weights of shape {list(weight.shape)}"
            f" and type {str(weight.dtype).removeprefix('torch.')}; use directional_ablation"
        )
    w = weight.float().movedim(axis, -1)
    kept = w - w @ rows.T.to(w) @ rows.to(w)
    weight.copy_(kept.movedim(-1, axis))


def _check(model: nn.Module, rows: Float[Tensor, "k d"]) -> None:
    """Reads every writer once: it is only a plain linear map if nothing is written along the directions."""
    sites = writer_sites(model)
    embedding = next(module for module in model.modules() if isinstance(module, nn.Embedding))
    ids = torch.arange(_N_TOKENS, device=embedding.weight.device)[None] % embedding.num_embeddings
    with reading(model, sites) as captured:
        model(input_ids=ids, use_cache=False)
    for site in sites:
        x = captured[site].float()
        written = (x @ rows.T.to(x)).norm() / x.norm()
        if written > min(1e3 * torch.finfo(captured[site].dtype).eps, 0.05):
            raise InputError(
                f"{site} of this {model_type_of(model)} still writes the directions: what it adds is not a plain"
                " linear map of its weights; use directional_ablation"
            )
