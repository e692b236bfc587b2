"""Generation, inside any `editing`: batched prompts of unequal length, padded on either side, with a cache or without.

1. Prompts are laid out with the padding asked for; position ids count real tokens, so that padding moves nothing.
2. A pass gives logits; each row's next token is chosen from those of its own last token.
3. Without a cache the row grows by that token, where it ends, and the next pass sees everything. With one, the next
   pass sees the new tokens alone. Behind right padding they would stand in slots with a gap, and sliding windows count
   slots; so after the first pass the cache of each row is moved to the right, as if it had been padded on the left.
4. A row that met a stop token goes on as padding.

Either way a prompt gives what it gives alone, up to rounding: its positions, what it sees and its random numbers do not
depend on the rest of the batch. Sampling inverts the distribution function at one uniform number a token.
"""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, assert_never, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.core.random import generator
from sae.lm.families import family_of
from sae.lm.load import Model, input_device, module_of, n_positions_of
from sae.lm.passes import prompts_end

Padding = Literal["left", "right"]


@dataclass(frozen=True)
class Greedy:
    """The most probable token."""


@dataclass(frozen=True)
class Sampled:
    """A token from the model's distribution."""

    seed: int
    """Equal prompts of one batch draw from streams of their own; a prompt alone draws from the first."""
    temperature: float = 1.0
    """Logits are divided by it."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature {self.temperature} must be above 0; Greedy() is its limit at 0")


Choice = Greedy | Sampled


class Generated(NamedTuple):
    """What followed each prompt."""

    tokens: list[Int[Tensor, "token"]]
    """The new tokens of each prompt on the CPU, the stop token included where it met one."""
    stopped: list[bool]
    """Whether it met a stop token."""


def generate(
    model: Model,
    prompts: Sequence[Sequence[int] | Int[Tensor, "_"] | Int[np.ndarray, "_"]],
    n_tokens: int,
    choice: Choice = Greedy(),
    padding: Padding = "left",
    cache: bool = True,
    stop: Collection[int] = (),
) -> Generated:
    """Continues each prompt; tells the contexts open on the model where the prompts end.

    Args:
        model: a causal language model.
        prompts: token ids, of any length from 1; those of `encode`, say.
        n_tokens: how many tokens to add at most.
        choice: greedy or sampled.
        padding: the side on which shorter prompts are filled up; edits see tensors laid out so.
        cache: keep keys and values, which changes the cost and nothing else.
        stop: ids after which a text is over.

    Raises:
        InputError: no prompts, an empty one, ids outside the vocabulary, more tokens than the model has positions for,
            an encoder, logits that are not finite.
    """
    module = module_of(model)
    ids = [torch.as_tensor(prompt, dtype=torch.long).cpu() for prompt in prompts]
    _check(module, ids, n_tokens, padding)
    lengths = torch.tensor([len(prompt) for prompt in ids])
    rows = _laid_out(ids, lengths, padding, input_device(module))
    chooser = _Chooser(choice, ids)
    alive = torch.ones(len(ids), dtype=torch.bool)
    chosen: list[Int[Tensor, "batch"]] = []
    n_new = torch.zeros(len(ids), dtype=torch.long)
    passes: _Passes = _Cached(module, rows) if cache else _Whole(module, rows)
    with torch.no_grad(), prompts_end(module, lengths):
        while len(chosen) < n_tokens and bool(alive.any()):
            logits = passes.then(chosen[-1], alive) if chosen else passes.first()
            chosen.append(chooser(logits, alive))
            n_new += alive
            alive = alive & ~torch.isin(chosen[-1], torch.tensor(sorted(stop), dtype=torch.long))
    new = torch.stack(chosen, dim=1) if chosen else torch.zeros(len(ids), 0, dtype=torch.long)
    return Generated([row[:n] for row, n in zip(new, n_new.tolist(), strict=True)], (~alive).tolist())


def _check(module: nn.Module, prompts: Sequence[Tensor], n_tokens: int, padding: str) -> None:
    if not family_of(module).causal:
        raise InputError(f"{type(module).__name__} is an encoder: it generates nothing")
    if padding not in get_args(Padding):
        raise InputError(f"no padding {padding!r}; there are {', '.join(get_args(Padding))}")
    if not prompts or min(map(len, prompts)) == 0:
        raise InputError("generation needs at least one prompt, each of at least one token")
    embedding: Any = module
    n_vocab = embedding.get_input_embeddings().weight.shape[0]
    for number, prompt in enumerate(prompts):
        if not 0 <= int(prompt.min()) <= int(prompt.max()) < n_vocab:
            raise InputError(f"prompt {number} has token ids outside the model's 0 to {n_vocab - 1}")
    longest, room = max(map(len, prompts)), n_positions_of(module)
    if n_tokens < 0 or longest + n_tokens > room:
        raise InputError(f"a prompt of {longest} tokens and {n_tokens} new ones; the model was made for {room}")


class _Rows(NamedTuple):
    """The texts so far, one a row."""

    ids: Int[Tensor, "batch position"]
    mask: Bool[Tensor, "batch position"]
    ends: Int[Tensor, "batch"]
    """Column after each row's last token."""

    def grown(self, tokens: Int[Tensor, "batch"], alive: Bool[Tensor, "batch"]) -> "_Rows":
        """One token more in each row; what is put into rows that are not alive is padding."""
        row = torch.arange(len(self.ids), device=self.ids.device)
        ids = torch.cat([self.ids, torch.zeros_like(self.ids[:, :1])], dim=1)
        mask = torch.cat([self.mask, torch.zeros_like(self.mask[:, :1])], dim=1)
        ids[row, self.ends], mask[row, self.ends] = tokens.to(ids.device), alive.to(mask.device)
        return _Rows(ids, mask, self.ends + 1)

    @property
    def positions(self) -> Int[Tensor, "batch position"]:
        """Position ids for the model; 0 on padding before a text."""
        return (self.mask.long().cumsum(dim=1) - 1).clamp(min=0)


def _laid_out(prompts: Sequence[Tensor], lengths: Tensor, padding: Padding, device: torch.device) -> _Rows:
    longest = int(lengths.max())
    column = torch.arange(longest)
    mask = column < lengths[:, None] if padding == "right" else column >= longest - lengths[:, None]
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    ids[mask] = torch.cat(list(prompts))
    ends = lengths if padding == "right" else torch.full_like(lengths, longest)
    return _Rows(ids.to(device), mask.to(device), ends.to(device))


class _Passes(Protocol):
    """A way of getting the next logits, [batch, vocab]."""

    def first(self) -> Float[Tensor, "batch vocab"]:
        """After the prompts."""
        ...

    def then(self, tokens: Int[Tensor, "batch"], alive: Bool[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        """After one token more; rows that are not alive get padding."""
        ...


class _Whole:
    """Every pass sees the whole texts."""

    def __init__(self, module: nn.Module, rows: _Rows) -> None:
        self._module, self._rows = module, rows

    def first(self) -> Float[Tensor, "batch vocab"]:
        logits = _call(self._module, self._rows, self._rows.ids, use_cache=False)
        return _last(logits, self._rows.ends)

    def then(self, tokens: Int[Tensor, "batch"], alive: Bool[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        self._rows = self._rows.grown(tokens, alive)
        return self.first()


class _Cached:
    """The first pass sees the prompts, every later one the new tokens."""

    def __init__(self, module: nn.Module, rows: _Rows) -> None:
        from transformers import DynamicCache

        self._module, self._rows = module, rows
        # Without the configuration every layer keeps everything, also those that look through a sliding window: what
        # they would drop is counted in slots, and after right padding the slots still have to move.
        self._cache = DynamicCache()

    def first(self) -> Float[Tensor, "batch vocab"]:
        rows = self._rows
        logits = _call(self._module, rows, rows.ids, use_cache=True, past_key_values=self._cache)
        self._rows = _to_the_right(rows, self._cache)
        return _last(logits, rows.ends)

    def then(self, tokens: Int[Tensor, "batch"], alive: Bool[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        self._rows = self._rows.grown(tokens, alive)
        new = self._rows.ids[:, -1:]
        return _call(self._module, self._rows, new, use_cache=True, past_key_values=self._cache)[:, -1]


def _call(module: nn.Module, rows: _Rows, ids: Int[Tensor, "batch new"], **caching: Any) -> Tensor:
    inputs = {"input_ids": ids, "attention_mask": rows.mask.long(), **caching}
    # Families without position ids (ALiBi) count along the mask themselves.
    if "position_ids" in inspect.signature(module.forward).parameters:
        inputs["position_ids"] = rows.positions[:, -ids.shape[1] :]
    return module(**inputs).logits


def _last(logits: Float[Tensor, "batch position vocab"], ends: Int[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
    row = torch.arange(len(logits), device=logits.device)
    return logits[row, ends.to(logits.device) - 1]


def _to_the_right(rows: _Rows, cache: Any) -> _Rows:
    """The rows, and their keys and values with them, moved so that all end in the last slot."""
    n_slots = rows.ids.shape[1]
    column = torch.arange(n_slots, device=rows.ids.device)
    source = (column + rows.ends[:, None]) % n_slots
    if not torch.equal(source, column.expand_as(source)):
        for layer in cache.layers:
            index = source.to(layer.keys.device)[:, None, :, None]
            layer.keys, layer.values = layer.keys.take_along_dim(index, 2), layer.values.take_along_dim(index, 2)
    return _Rows(rows.ids.gather(1, source), rows.mask.gather(1, source), torch.full_like(rows.ends, n_slots))


class _Chooser:
    """Chooses each row's next token; a row's random numbers depend on the seed and its prompt alone."""

    def __init__(self, choice: Choice, prompts: Sequence[Int[Tensor, "_"]]) -> None:
        self._choice = choice
        self._streams: list[torch.Generator] = []
        if isinstance(choice, Sampled):
            n_seen: dict[str, int] = {}
            for prompt in prompts:
                name = ",".join(map(str, prompt.tolist()))
                copy = n_seen[name] = n_seen.get(name, -1) + 1
                self._streams.append(generator(choice.seed, "generate", name, copy))

    def __call__(self, logits: Float[Tensor, "batch vocab"], alive: Bool[Tensor, "batch"]) -> Int[Tensor, "batch"]:
        logits = logits.detach().to("cpu", torch.float64)
        broken = (alive & ~logits.amax(dim=1).isfinite()).nonzero()
        if len(broken):
            raise InputError(f"the logits after prompt {int(broken[0])} are not finite; does an edit make them so?")
        match self._choice:
            case Greedy():
                return logits.argmax(dim=1)
            case Sampled(temperature=temperature):
                below = torch.softmax(logits / temperature, dim=1).cumsum(dim=1)
                u = torch.cat([torch.rand(1, generator=stream, dtype=torch.float64) for stream in self._streams])
                # Scaled to the last sum, which rounding keeps from 1.
                chosen = torch.searchsorted(below, (u * below[:, -1])[:, None], right=True)[:, 0]
                return chosen.clamp(max=below.shape[1] - 1)
            case _:
                assert_never(self._choice)
