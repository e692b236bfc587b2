"""Reading and editing a model's activations; with `sae.lm.points`, the only file that registers hooks.

    with reading(model, ["blocks.2.resid_post"]) as captured:
        model(input_ids=ids)
    x = captured["blocks.2.resid_post"]                         # [batch, position, d]

    with editing(model, {"blocks.2.resid_post": f}):            # f(x, context) -> x
        logits = model(input_ids=ids).logits

Order. Contexts nest. At one site hooks act in the order in which their contexts were entered: a reading sees the
edits entered before it and not those entered after it. At every later site it sees them all. Several edits at one
site of one context act in the order of their list. All hooks are gone when their context is left, however it is left.

Stopping. A reading ends the forward pass as soon as it has its sites; the rest of the `with` body is then skipped, so
the call belongs on its last line. Nested readings stop only when all of them have theirs.

Threads. A context belongs to the thread that opened it: passes of other threads, also through the same model, are
neither read nor edited by it. (Gradient checkpointing on a GPU recomputes in a thread of its own, where no edit acts.)

Shapes and meanings of the sites stand in `sae.lm.site`. Reading or editing `attn_pattern` has this thread's passes of
this model go through its eager attention kernel inside the `with` block; nobody else's (`sae.lm.kernel`).
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm.attach import attach
from sae.lm.context import Context, context_of, named
from sae.lm.edits import Edit, apply
from sae.lm.host import HostCopies
from sae.lm.load import Model, module_of
from sae.lm.passes import OpenReading, Stop, open_reading, prompt_lengths
from sae.lm.site import Site, check_site


class Captured(dict[str, Tensor]):
    """Activations by site, [batch, position, d]; of the latest pass where there were several."""

    def __missing__(self, site: str) -> Tensor:
        raise InputError(f"{site!r} was not captured; call the model inside the `with` block, on the sites asked for")


@contextmanager
def reading(
    model: Model, sites: Sequence[str], stop: bool = True, gradients: bool = False, to_host: bool = False
) -> Iterator[Captured]:
    """Captures activations of the forward passes inside the `with` block.

    Args:
        model: a `LoadedModel` or a Hugging Face causal language model.
        sites: names of places.
        stop: end the pass after the last site needed; what follows the call in the `with` block is skipped.
        gradients: keep the graph; otherwise nothing in the block records gradients and captures are detached.
        to_host: copy captures to the host: from a GPU into pinned memory, beside the pass; there when the block ends.

    Raises:
        InputError: a site that the model has not; `gradients` of what is copied to the host.
    """
    if gradients and to_host:
        raise InputError("gradients and to_host: copies on the host have no graph; ask for one of them")
    module = module_of(model)
    checked = [check_site(module, site) for site in sites]
    captured, copies = Captured(), HostCopies()
    mine = OpenReading(frozenset(sites), stop)
    with ExitStack() as stack:
        readings = stack.enter_context(open_reading(module, mine))
        if not gradients:
            stack.enter_context(torch.no_grad())
        _on_call(stack, module, lambda inputs: mine.seen.clear())
        stack.callback(copies.wait)

        def capture(site: Site) -> Callable[[Tensor], None]:
            def act(x: Tensor) -> None:
                kept = copies.of(x) if to_host else x.detach()
                captured[str(site)] = x if gradients else kept
                mine.seen.add(str(site))
                if all(one.done for one in readings):
                    raise Stop

            return act

        for site in checked:
            attach(stack, module, site, capture(site))
        with suppress(Stop):
            yield captured


@contextmanager
def editing(
    model: Model, edits: Mapping[str, Edit | Sequence[Edit]], capture: Sequence[str] = (), finite: bool = True
) -> Iterator[None]:
    """Replaces activations of the forward passes inside the `with` block.

    Args:
        model: a `LoadedModel` or a Hugging Face causal language model.
        edits: for each site a function, or several that act one after the other.
        capture: sites whose values, before this context's own edits there, stand in `context.captured`.
        finite: refuse an edit that gives NaN or an infinity; costs one sum over what it gives, and on a GPU a wait.

    Raises:
        InputError: a site that the model has not; an edit that gives another shape, dtype or device, that changes its
            argument in place, or that gives a value that is not finite (names the site and the position).
    """
    module = module_of(model)
    state = _State(module, finite)
    checked = [(check_site(module, site), [edit] if callable(edit) else edit) for site, edit in edits.items()]
    with ExitStack() as stack:
        _on_call(stack, module, state.begin)
        for site in capture:
            attach(stack, module, check_site(module, site), state.capture(site))
        for site, functions in checked:
            for function in functions:
                attach(stack, module, site, state.edit(str(site), function))
        _after_call(stack, module, state.end)  # last, so that edits of the logits come before it
        yield


class _State:
    """The context of the pass under way, shared by the hooks of one `editing`."""

    def __init__(self, module: nn.Module, finite: bool) -> None:
        self._module, self._finite = module, finite
        self.context: Context | None = None

    def begin(self, inputs: dict[str, Any]) -> None:
        self.context = context_of(inputs, prompt_lengths(self._module))

    def end(self) -> None:
        # Lest a call of a part of the model, which tells no context, be taken for this pass.
        self.context = None

    def now(self) -> Context:
        if self.context is None:
            raise InputError("an edit was reached without its context; call the whole language model, not a part of it")
        return self.context

    def capture(self, site: str) -> Callable[[Tensor], None]:
        def act(x: Tensor) -> None:
            self.now().captured[site] = x

        return act

    def edit(self, site: str, function: Edit) -> Callable[[Tensor], Tensor]:
        return lambda x: apply(function, x, replace(self.now(), site=site), self._finite)


def _on_call(stack: ExitStack, module: nn.Module, act: Callable[[dict[str, Any]], None]) -> None:
    """Runs `act` at the start of each pass of the whole model."""
    mine = threading.get_ident()

    # Without `inputs` where another thread removes the hook while this one is about to call it.
    def hook(_: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any] | None = None) -> None:
        if threading.get_ident() == mine:
            act(named(module, args, inputs or {}))

    stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)


def _after_call(stack: ExitStack, module: nn.Module, act: Callable[[], None]) -> None:
    """Runs `act` at the end of each pass of the whole model."""
    mine = threading.get_ident()

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() == mine:
            act()

    stack.callback(module.register_forward_hook(hook).remove)
