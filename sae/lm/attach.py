"""Attaching a function to a site.

A site is a view of the tensor at one side of a module (`sae.lm.view`), and functions run there in order
(`sae.lm.points`). The residual between attention and MLP mostly exists as a norm's input only: after an edit there
the block's output is made anew, as the edited residual and what the MLP adds to it, which is what the block would have
computed. Where nobody knows what the MLP adds (a family without `mlp_out`, dropout in training), the edit's difference
is added to the block's output instead; that is exact up to rounding only.
"""

from contextlib import ExitStack
from dataclasses import replace

from torch import Tensor, nn

from sae.lm.families import family_of
from sae.lm.load import Model, module_of
from sae.lm.points import Act, run_at
from sae.lm.site import Place, Site, place_of
from sae.lm.view import Flat, View, Whole, put_back, seen

_FIRST, _LAST = -1, 1 << 16
"""Ranks before and after every site."""


def attach(stack: ExitStack, model: Model, site: Site, act: Act) -> None:
    """Runs `act` on the activation at a site until the stack closes; what it gives takes the activation's place.

    Where gradients are recorded, all that is computed from the site is computed from the tensor that `act` was given
    (or gave), so the gradient by that tensor is the site's.
    """
    module = module_of(model)
    place = place_of(module, site)
    if isinstance(place.view, Flat):
        act = _unflattened(stack, module, site, act)
    elif not isinstance(place.view, Whole):
        act = _through(place.view, act)
    if site.name == "resid_mid" and place.side == "input":
        act = _carried(stack, module, site, act)
    run_at(stack, module, place, act)


def _through(view: View, act: Act) -> Act:
    def through_view(x: Tensor) -> Tensor | None:
        before = seen(view, x)
        y = act(before)
        if (y is None or y is before) and not before.requires_grad:
            return None
        return put_back(view, x, before if y is None else y)

    return through_view


def _unflattened(stack: ExitStack, module: nn.Module, site: Site, act: Act) -> Act:
    """As seen with batch and position apart: the block's input tells the batch."""
    n_batch: list[int] = []

    def at_block(x: Tensor) -> None:
        n_batch[:] = [len(x)]

    def with_batch(x: Tensor) -> Tensor | None:
        return _through(Flat(*n_batch), act)(x)

    run_at(stack, module, Place(_block(module, site), "input", Whole(), _FIRST), at_block)
    return with_batch


def _carried(stack: ExitStack, module: nn.Module, site: Site, act: Act) -> Act:
    """What `act` makes of the residual goes into the block's output too."""
    edited: list[tuple[Tensor, Tensor]] = []
    added: list[Tensor] = []

    def into_norm(x: Tensor) -> Tensor | None:
        edited.clear()
        added.clear()
        y = act(x)
        if y is not None and y is not x:
            edited.append((x, y))
        return y

    def into_residual(output: Tensor) -> Tensor | None:
        if not edited:
            return None
        x, y = edited.pop()
        return (y + added.pop().view_as(y) if added else output.view_as(y) + (y - x)).view_as(output)

    if family_of(module).mlp_out and not module.training:
        out = place_of(module, Site("mlp_out", site.block))
        run_at(stack, module, replace(out, rank=_LAST), lambda x: added.append(x) if edited else None)
    run_at(stack, module, Place(_block(module, site), "output", Whole(), _FIRST), into_residual)
    return into_norm


def _block(module: nn.Module, site: Site) -> str:
    return f"{family_of(module).blocks}.{site.block}"
