"""Attaching a function to a site.

A site is a view of the tensor at one side of a module (`sae.lm.view`), and functions run there in order
(`sae.lm.points`). The residual between attention and MLP mostly exists as a norm's input only: an edit there must also
be added to the block's output, which adds the MLP's output to the residual as it was.
"""

from contextlib import ExitStack

from torch import Tensor, nn

from sae.lm.families import family_of
from sae.lm.load import Model, module_of
from sae.lm.points import Act, run_at
from sae.lm.site import Place, Site, place_of
from sae.lm.view import Flat, View, Whole, put_back, seen

_FIRST = -1
"""Rank before every site."""


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
    """The change that `act` makes is added to the block's output too."""
    change: list[Tensor] = []

    def into_norm(x: Tensor) -> Tensor | None:
        change.clear()
        y = act(x)
        if y is not None and y is not x:
            change.append(y - x)
        return y

    def into_residual(x: Tensor) -> Tensor | None:
        return x + change.pop().view_as(x) if change else None

    run_at(stack, module, Place(_block(module, site), "output", Whole(), _FIRST), into_residual)
    return into_norm


def _block(module: nn.Module, site: Site) -> str:
    return f"{family_of(module).blocks}.{site.block}"
