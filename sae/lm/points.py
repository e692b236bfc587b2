"""Hooks at modules, in the order of the sites there.

At each side of a module stands at most one hook of a thread. It runs the functions attached there, first those of the
site that is computed first, then in the order in which they were attached, each on what the last one left. So an edit
never shows in an earlier site, even where both lie in the same tensor (`mlp_in` is the residual itself in OLMo 2).

Heads after W_O are in no module's output: they are z_h W_O, from W_O's input and weight, and an edit's difference,
summed over heads, is added to W_O's output, in float32 at least and rounded once. What stays is the rounding of each
head before the edit, which W_O's output never had: in all at most u (|output| + Σ_h |z_h W_O|), where u is half the
spacing of numbers near 1 (2⁻⁸ in bfloat16). The weights in the attention kernel are `sae.lm.kernel`'s.

A function belongs to the thread that attached it: passes of other threads, also through the same model, never reach it.
"""

import threading
from bisect import insort
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, assert_never
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm.compiled import all_as_written, looked_into
from sae.lm.kernel import weights_of
from sae.lm.site import Place, Side, head_counts
from sae.lm.weights import weight_of

Act = Callable[[Tensor], Tensor | None]
"""f(x) -> what takes the place of x, or None to leave it."""


@dataclass(order=True)
class _Entry:
    rank: int
    serial: int
    act: Act = field(compare=False)


class _Point:
    """What this thread has attached at one side of one module, and the one hook that runs it."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.hook = ExitStack()
        self._n_attached = 0

    def add(self, rank: int, act: Act) -> _Entry:
        self._n_attached += 1
        entry = _Entry(rank, self._n_attached, act)
        insort(self.entries, entry)
        return entry

    def remove(self, entry: _Entry) -> None:
        self.entries.remove(entry)
        if not self.entries:
            self.hook.close()

    def run(self, x: Tensor) -> Tensor:
        """What the functions make of x, which is x itself where none changes it."""
        for entry in tuple(self.entries):
            y = entry.act(x)
            x = x if y is None else y
        return x


class _Thread(threading.local):
    def __init__(self) -> None:
        self.points: WeakKeyDictionary[nn.Module, dict[str, _Point]] = WeakKeyDictionary()


_this_thread = _Thread()


def run_at(stack: ExitStack, module: nn.Module, place: Place, act: Act) -> None:
    """Runs `act` on the tensor at a place of a model, whatever the place's view, until the stack closes."""
    part = module.get_submodule(place.path)
    stack.enter_context(looked_into(module, place.path))
    point = _this_thread.points.setdefault(part, {}).setdefault(place.side, _Point())
    if not point.entries:
        with ExitStack() as opened:  # what was opened before a refusal is closed again
            _hook(opened, point, module, part, place.side)
            point.hook = opened.pop_all()
    stack.callback(point.remove, point.add(place.rank, act))


def _hook(stack: ExitStack, point: _Point, module: nn.Module, part: nn.Module, side: Side) -> None:
    """Has the point run at every call of the module until the stack closes."""
    match side:
        case "input":
            stack.callback(part.register_forward_pre_hook(_on_input(point.run), with_kwargs=True).remove)
        case "output":
            stack.callback(part.register_forward_hook(_on_output(point.run)).remove)
        case "heads":
            per_head = _on_heads(point.run, _output_map(part, *head_counts(module)[:1]))
            # First in line: the sum over heads is computed from them.
            stack.callback(part.register_forward_hook(per_head, prepend=True).remove)
        case "kernel":
            stack.enter_context(all_as_written(module))
            stack.enter_context(weights_of(module, part, point.run))
        case _:
            assert_never(side)


def _on_input(act: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    mine = threading.get_ident()

    # Without `inputs` where another thread removes the hook while this one is about to call it.
    def hook(part: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any] | None = None) -> Any:
        if threading.get_ident() != mine:
            return None
        inputs = inputs or {}
        if args:
            y = act(args[0])
            return None if y is args[0] else ((y, *args[1:]), inputs)
        if "hidden_states" not in inputs:
            raise InputError(
                f"a site is what {type(part).__name__} reads, but it is called by {', '.join(inputs) or 'nothing'};"
                " what can be read is a first argument, or hidden_states"
            )
        y = act(inputs["hidden_states"])
        return None if y is inputs["hidden_states"] else (args, {**inputs, "hidden_states": y})

    return hook


def _on_output(act: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Modules give a tensor, a tuple that begins with it (attention) or with a loss (the whole model, as a tuple), or a
    record with logits (the whole model)."""
    mine = threading.get_ident()

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        if isinstance(output, Tensor):
            return act(output)
        if isinstance(output, tuple):
            first = 1 if output[0].ndim == 0 else 0
            y = act(output[first])
            return None if y is output[first] else (*output[:first], y, *output[first + 1 :])
        y = act(output.logits)
        return None if y is output.logits else replace(output, logits=y)

    return hook


def _on_heads(act: Callable[[Tensor], Tensor], weight: Float[Tensor, "head d_head d_model"]) -> Callable[..., Any]:
    mine = threading.get_ident()

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if threading.get_ident() != mine:
            return None
        heads = torch.einsum("bphd,hdm->bphm", args[0].unflatten(-1, weight.shape[:2]), weight)
        y = act(heads)
        if y is heads and not heads.requires_grad:
            return None
        plain, before = (output.detach(), heads.detach()) if heads.requires_grad else (output, heads)
        wide = torch.promote_types(output.dtype, torch.float32)
        return (plain + (y.to(wide) - before.to(wide)).sum(dim=2)).to(output.dtype)

    return hook


def _output_map(part: nn.Module, n_heads: int) -> Float[Tensor, "head d_head d_model"]:
    """W_O by heads.

    Raises:
        InputError: weights that are not plain numbers, as quantised ones are not.
    """
    weight = weight_of(part)
    if not weight.is_floating_point() or weight.ndim != 2:
        raise InputError(
            f"attn_heads needs W_O in numbers; this {type(part).__name__} holds {weight.dtype} (quantised); "
            "read attn_z or attn_out"
        )
    by_input = weight.T if isinstance(part, nn.Linear) else weight
    return by_input.unflatten(0, (n_heads, -1))
