"""Every operation and every position rule, for prompts of unequal length; a batch's are those of its texts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sae.dictionary import Dictionary, DictionaryConfig, Relu, TopK
from sae.dictionary.config import Activation
from sae.intervention import (
    Direction,
    Operation,
    Positions,
    ablate,
    add,
    affine,
    all_of,
    at,
    everywhere,
    except_tokens,
    in_order,
    indices,
    interchange,
    multiply,
    on_generated,
    on_prompt,
    only_tokens,
    project_out,
    replace,
    scale_latents,
    set_latents,
    spans,
    splice,
)
from sae.lm import Context

D, SITE, SOURCE = 16, "blocks.1.resid_post", "blocks.1.mlp_in"
LENGTHS = (7, 4, 6)
LONGEST = max(LENGTHS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dictionary_of(activation: Activation, d_in: int = D, d_out: int = D, d_sae: int = 40) -> Dictionary:
    config = DictionaryConfig(d_in=d_in, d_out=d_out, d_sae=d_sae, activation=activation, subtract_b_dec=d_in == d_out)
    result = Dictionary(config)
    with torch.no_grad():
        for seed, weight in enumerate(result.parameters()):
            weight.copy_(normal(*weight.shape, seed=seed) / 2)
    return result.requires_grad_(False)


SPARSE, DENSE = dictionary_of(TopK(k=5)), dictionary_of(Relu())
TRANSCODER = dictionary_of(TopK(k=5), d_sae=24)
DIRECTION = Direction(normal(D), SITE, "std", "difference of means", length=1.5)
PROMPTS = [torch.randint(3, 48, (n,), generator=torch.Generator().manual_seed(n)) for n in LENGTHS]
VALUES = normal(3, LONGEST + 1, D, seed=5)
"""For every prompt position of every text, and for the first that is generated."""
MASK = normal(3, LONGEST + 1, seed=6) > 0
SPANS = ([(0, 2), (4, 6)], [(1, 4)], [(2, 3), (5, 6)])

Texts = Sequence[int]
"""Which of the three texts are in the batch."""

RULES: dict[str, Callable[[Texts], Positions]] = {
    "everywhere": lambda texts: everywhere(),
    "prompt": lambda texts: on_prompt(),
    "generated": lambda texts: on_generated(),
    "indices": lambda texts: indices(0, 2, -1),
    "spans": lambda texts: spans([(0, 2), (3, 4)]),
    "spans of each": lambda texts: spans(*(SPANS[text] for text in texts)),
    "tokens": lambda texts: only_tokens(range(3, 20)),
    "except tokens": lambda texts: except_tokens({5, 9, int(PROMPTS[0][0])}),
    "mask": lambda texts: at(MASK[list(texts)]),
    "mask of all": lambda texts: at(MASK[:1]),
    "all of": lambda texts: all_of(on_prompt(), everywhere(), except_tokens({int(PROMPTS[1][1])})),
}

Make = Callable[[Texts, Positions], Operation]
OPERATIONS: dict[str, Make] = {
    "add direction": lambda texts, rule: add(DIRECTION, 2.0, rule),
    "add vector": lambda texts, rule: add(2 * normal(D, seed=2), -1.5, rule),
    "add to each": lambda texts, rule: add(2 * VALUES[list(texts), 0], 1.0, rule),
    "add by position": lambda texts, rule: add(2 * VALUES[list(texts)], 1.0, rule),
    "replace": lambda texts, rule: replace(normal(D, seed=3), rule),
    "replace by position": lambda texts, rule: replace(VALUES[list(texts)], rule),
    "ablate": lambda texts, rule: ablate(positions=rule),
    "ablate to mean": lambda texts, rule: ablate(normal(D, seed=4), rule),
    "affine": lambda texts, rule: affine(normal(D, D, seed=1) / 4, normal(D, seed=2), rule),
    "interchange": lambda texts, rule: interchange(normal(4, D), 3 * normal(D, seed=8), rule),
    "interchange by position": lambda texts, rule: interchange(normal(4, D), 3 * VALUES[list(texts)], rule),
    "project out": lambda texts, rule: project_out(normal(5, D), positions=rule),
    "project out to mean": lambda texts, rule: project_out(normal(2, D), 3 * normal(D, seed=3), rule),
    "multiply": lambda texts, rule: multiply(normal(2, D), -3.0, positions=rule),
    "multiply about": lambda texts, rule: multiply(normal(1, D), 5.0, normal(D, seed=7), rule),
    "set latents": lambda texts, rule: set_latents(SPARSE, {7: 2.5, 30: 0.0, 3: torch.tensor(4.0)}, rule),
    "set latents of each": lambda texts, rule: set_latents(DENSE, {7: 3 * VALUES[list(texts), 0, 0].abs()}, rule),
    "set latents by position": lambda texts, rule: set_latents(DENSE, {7: 3 * VALUES[list(texts), :, 0]}, rule),
    "scale latents": lambda texts, rule: scale_latents(DENSE, {7: 3.0, 1: -1.0, 12: 0.0}, rule),
    "splice": lambda texts, rule: splice(SPARSE, rule),
    "splice dense": lambda texts, rule: splice(DENSE, rule),
    "splice transcoder": lambda texts, rule: splice(TRANSCODER, rule, SOURCE),
    "set transcoder": lambda texts, rule: set_latents(TRANSCODER, {2: 5.0, 3: 4.0}, rule, SOURCE),
    "in order": lambda texts, rule: in_order(add(DIRECTION, 2.0, rule), splice(SPARSE, on_prompt()), ablate()),
}
"""By name, made for the texts of a batch; everything that is given for each text is cut to them."""


class Case(NamedTuple):
    """One operation under one rule."""

    operation: str
    rule: str

    def made(self, texts: Texts = (0, 1, 2)) -> Operation:
        return OPERATIONS[self.operation](texts, RULES[self.rule](texts))


CASES = [Case(operation, rule) for operation in OPERATIONS for rule in RULES]


class SideBySide:
    """Several cases in one pass: the first texts of the batch are edited by the first case, the next by the second.

    Each operation is called with its own texts and their part of the context, as if they were the batch.
    """

    def __init__(self, cases: Sequence[Case], texts: Texts) -> None:
        self.cases, self.texts = cases, texts
        self._operations = [case.made(texts) for case in cases]

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        n = len(self.texts)
        parts = [slice(start, start + n) for start in range(0, len(x), n)]
        edited = zip(self._operations, parts, strict=True)
        return torch.cat([operation(x[part], _part(context, part)) for operation, part in edited])


def _part(context: Context, rows: slice) -> Context:
    tokens = None if context.tokens is None else context.tokens[rows]
    captured = {site: x[rows] for site, x in context.captured.items()}
    masks = (context.positions[rows], context.mask[rows], context.generated[rows])
    return Context(tokens, *masks, captured, context.site)


@pytest.fixture(params=CASES, ids=" / ".join)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=["topk", "relu"])
def dictionary(request: pytest.FixtureRequest) -> Dictionary:
    return {"topk": SPARSE, "relu": DENSE}[request.param]
