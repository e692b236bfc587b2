"""Where an edit acts: a rule from the pass under way to the positions that change.

Positions count the tokens of a text from 0, its padding left out, and go on through what the model generates; −1 is the
last token of the *prompt*. So a rule selects the same tokens under either padding, alone or in a batch, with and
without a cache. Everywhere else the activation keeps its bits: a rule selects, it never blends. Rules are values: they
are saved, loaded and printed with the operations that they belong to.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import index

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.core.errors import InputError
from sae.intervention.lookup import aligned, check_rows, look_up
from sae.lm.hooks import Context

Mask = Bool[Tensor, "batch position"]


@dataclass(frozen=True)
class Everywhere:
    """Every position, padding included: nothing sees it."""

    def __call__(self, context: Context) -> None:
        return None

    def __str__(self) -> str:
        return "everywhere"


@dataclass(frozen=True)
class OnPrompt:
    """The tokens of the prompt; in a pass that generates nothing, all."""

    def __call__(self, context: Context) -> Mask:
        return context.mask & ~context.generated

    def __str__(self) -> str:
        return "on the prompt"


@dataclass(frozen=True)
class OnGenerated:
    """The tokens that the model generated, from the moment at which it reads them."""

    def __call__(self, context: Context) -> Mask:
        return context.mask & context.generated

    def __str__(self) -> str:
        return "on what the model generates"


@dataclass(frozen=True)
class AtIndices:
    """Given positions of every prompt; negative ones count from its end."""

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.indices:
            raise InputError("no position is named; name at least one, 0 being a text's first token")

    def __call__(self, context: Context) -> Mask:
        lengths, prompt = prompt_lengths(context), _prompt(context)
        hits = [prompt & (context.positions == (i if i >= 0 else lengths + i)) for i in self.indices]
        # Of several texts in one row each must have the position.
        n_texts = (prompt & (context.positions == 0)).sum(1).clamp_min(prompt.any(1).long())
        missed = torch.stack([hit.sum(1) for hit in hits]) < n_texts
        if missed.any():
            which, row = missed.nonzero()[0].tolist()
            raise _outside(f"position {self.indices[which]}", row, lengths)
        return torch.stack(hits).any(0)

    def __str__(self) -> str:
        plural = "s" if len(self.indices) > 1 else ""
        return f"at position{plural} {', '.join(map(str, self.indices))} of the prompt"


@dataclass(frozen=True)
class InSpans:
    """Stretches [start, end) of the prompt; one row of them stands for every text, else each text has its own."""

    rows: tuple[tuple[tuple[int, int], ...], ...]

    def __post_init__(self) -> None:
        wrong = [span for row in self.rows for span in row if not 0 <= span[0] < span[1]]
        if wrong or not any(self.rows):
            said = f"{list(wrong[0])} is no span" if wrong else "no span is named"
            raise InputError(f"{said}; a span is [start, end) with 0 ≤ start < end, counted in tokens")

    def __call__(self, context: Context) -> Mask:
        check_rows(len(self.rows), context, "spans")
        lengths, prompt = prompt_lengths(context), _prompt(context)
        shortest = lengths.masked_fill(~prompt, torch.iinfo(lengths.dtype).max).amin(1).tolist()
        selected = torch.zeros_like(prompt)
        for row, length in enumerate(shortest):
            for start, end in self.rows[row if len(self.rows) > 1 else 0]:
                if end > length:
                    raise _outside(f"span [{start}, {end})", row, lengths)
                selected[row] |= (context.positions[row] >= start) & (context.positions[row] < end)
        return selected & prompt

    def __str__(self) -> str:
        if len(self.rows) > 1:
            return f"in {sum(map(len, self.rows))} spans of {len(self.rows)} prompts"
        spans = [f"[{start}, {end})" for row in self.rows for start, end in row]
        return f"in {', '.join(spans)} of the prompt"


@dataclass(frozen=True)
class OnTokens:
    """The positions that hold one of these tokens."""

    ids: tuple[int, ...]

    def __call__(self, context: Context) -> Mask:
        return context.mask & _holds(context, self.ids)

    def __str__(self) -> str:
        return f"on {_tokens(self.ids)}"


@dataclass(frozen=True)
class ExceptTokens:
    """Every position but those that hold one of these tokens: BOS, say, which a dictionary never saw."""

    ids: tuple[int, ...]

    def __call__(self, context: Context) -> Mask:
        return context.mask & ~_holds(context, self.ids)

    def __str__(self) -> str:
        return f"everywhere except on {_tokens(self.ids)}"


@dataclass(frozen=True, eq=False)
class AtMask:
    """The positions where a mask is true; one row stands for every text. Beyond its end nothing is selected."""

    mask: Bool[Tensor, "batch position"]

    def __call__(self, context: Context) -> Mask:
        found = look_up(self.mask, context, "a mask")
        return found.values & found.inside

    def __str__(self) -> str:
        n_texts, n_positions = self.mask.shape
        return f"at {int(self.mask.sum())} of {n_texts} × {n_positions} positions"


@dataclass(frozen=True, eq=False)
class AllOf:
    """Where every one of several rules selects."""

    rules: tuple["Positions", ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise InputError("no rule for positions is named; name at least one")

    def __call__(self, context: Context) -> Mask | None:
        masks = [mask for rule in self.rules if (mask := rule(context)) is not None]
        return torch.stack([mask.to(context.mask.device) for mask in masks]).all(0) if masks else None

    def __str__(self) -> str:
        return " and ".join(str(rule) for rule in self.rules)


Positions = Everywhere | OnPrompt | OnGenerated | AtIndices | InSpans | OnTokens | ExceptTokens | AtMask | AllOf
"""A rule: called with a context it gives True where the edit acts; None stands for everywhere."""


def everywhere() -> Everywhere:
    """Every position, padding included: nothing sees it."""
    return Everywhere()


def on_prompt() -> OnPrompt:
    """The tokens of the prompt; in a pass that generates nothing, all."""
    return OnPrompt()


def on_generated() -> OnGenerated:
    """The tokens that the model generated, from the moment at which it reads them."""
    return OnGenerated()


def at(mask: Bool[Tensor, "batch position"]) -> AtMask:
    """The positions where `mask` is true; one row stands for every text of the batch.

    Column p is a text's token p, wherever padding has put it: a mask made in the layout of a batch that is padded on
    the left must be moved to the left first.
    """
    return AtMask(mask)


def indices(*places: int) -> AtIndices:
    """Positions of the prompt, 0 being its first token and −1 its last; each must lie in every text.

    Raises:
        InputError: no position; when it acts, a text without such a position.
    """
    return AtIndices(tuple(map(index, places)))


def spans(*rows: Sequence[tuple[int, int]]) -> InSpans:
    """Stretches [start, end) of the prompt, in tokens: one sequence of them for all texts, or one for each text.

    Raises:
        InputError: a stretch without tokens; when it acts, one that is not within its text.
    """
    return InSpans(tuple(tuple((index(start), index(end)) for start, end in row) for row in rows))


def only_tokens(ids: Collection[int]) -> OnTokens:
    """The positions that hold one of these tokens."""
    return OnTokens(tuple(sorted(map(index, ids))))


def except_tokens(ids: Collection[int]) -> ExceptTokens:
    """Every position but those that hold one of these tokens: BOS, say, which a dictionary never saw."""
    return ExceptTokens(tuple(sorted(map(index, ids))))


def all_of(*rules: Positions) -> AllOf:
    """Where every one of several rules selects: `all_of(on_prompt(), except_tokens({0}))`."""
    return AllOf(rules)


def selected(
    positions: Positions, context: Context, x: Float[Tensor, "batch *rest"], y: Float[Tensor, "batch *rest"]
) -> Float[Tensor, "batch *rest"]:
    """y where the rule selects, x elsewhere.

    Raises:
        InputError: the rule's mask has another number of texts or positions than the activation.
    """
    mask = positions(context)
    return y if mask is None else where(mask, y, x, context)


def where(
    mask: Bool[Tensor, "batch position"],
    y: Float[Tensor, "batch *rest"],
    x: Float[Tensor, "batch *rest"],
    context: Context,
) -> Float[Tensor, "batch *rest"]:
    """y where the mask is true, x elsewhere.

    Raises:
        InputError: x has another number of texts or positions.
    """
    mask = aligned(mask.to(x.device), x, context)
    if any(n not in (1, of_x) for n, of_x in zip(mask.shape, x.shape, strict=True)):
        wanted = list(context.mask.shape)
        raise InputError(f"positions are for {wanted} [batch, position], the activation is {list(x.shape)}")
    return torch.where(mask, y, x)


def prompt_lengths(context: Context) -> Int[Tensor, "batch position"]:
    """At each token the number of prompt tokens of its text; several texts may be packed into one row."""
    p = context.positions
    begins = torch.nn.functional.pad(p[:, 1:] != p[:, :-1] + 1, (1, 0))
    text = begins.long().cumsum(1)
    last = p.masked_fill(~_prompt(context), -1)
    longest = torch.full_like(p, -1).scatter_reduce(1, text.clamp_max(p.shape[1] - 1), last, "amax")
    return longest.gather(1, text.clamp_max(p.shape[1] - 1)) + 1


def _prompt(context: Context) -> Mask:
    return context.mask & ~context.generated


def _outside(what: str, row: int, lengths: Int[Tensor, "batch position"]) -> InputError:
    own = lengths[row][lengths[row] > 0]
    n = int(own.min())
    which = f"text {row} of the batch" if int(own.max()) == n else f"a text that is packed into row {row}"
    return InputError(f"{what} is outside {which}: its prompt has {n} tokens, 0 to {n - 1}")


def _holds(context: Context, ids: tuple[int, ...]) -> Mask:
    if context.tokens is None:
        raise InputError("positions chosen by token need token ids; the model was given embeddings")
    return torch.isin(context.tokens, torch.tensor(ids, dtype=torch.long, device=context.tokens.device))


def _tokens(ids: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")
    return f"token{'s' if len(ids) != 1 else ''} {shown or '(none)'}"
