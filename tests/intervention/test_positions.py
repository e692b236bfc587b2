"""Laws of the position rules: what each selects, under either padding, in packed windows and while generating."""

import pytest
import torch
from torch import Tensor

from sae.core.errors import InputError
from sae.intervention import (
    Positions,
    add,
    all_of,
    at,
    everywhere,
    except_tokens,
    indices,
    on_generated,
    on_prompt,
    only_tokens,
    set_latents,
    spans,
)
from sae.lm import Context

from .conftest import DENSE, MASK, RULES, D, normal

RIGHT = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, -1, -1]])
LEFT = torch.tensor([[0, 1, 2, 3, 4], [-1, -1, 0, 1, 2]])
PACKED = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])


def context(positions: Tensor, n_prompt: int = 99) -> Context:
    mask = positions >= 0
    return Context(10 + positions, positions, mask, mask & (positions >= n_prompt))


def chosen(rule: Positions, positions: Tensor, n_prompt: int = 99) -> list[list[int]]:
    """The absolute positions that a rule selects in each row."""
    mask = rule(context(positions, n_prompt))
    assert mask is not None
    return [row[one].tolist() for row, one in zip(positions, mask, strict=True)]


@pytest.mark.parametrize("positions", [LEFT, RIGHT], ids=["left", "right"])
def test_rules_select_places_in_the_text(positions: Tensor) -> None:
    assert chosen(indices(0, -1), positions) == [[0, 4], [0, 2]]
    assert chosen(indices(-3, 1), positions) == [[1, 2], [0, 1]]
    assert chosen(spans([(0, 1), (2, 3)]), positions) == [[0, 2], [0, 2]]
    assert chosen(spans([(3, 5)], [(0, 2)]), positions) == [[3, 4], [0, 1]]
    assert chosen(on_prompt(), positions) == [[0, 1, 2, 3, 4], [0, 1, 2]]
    assert chosen(on_prompt(), positions, 3) == [[0, 1, 2], [0, 1, 2]]
    assert chosen(on_generated(), positions, 3) == [[3, 4], []]
    assert chosen(only_tokens({10, 12}), positions) == [[0, 2], [0, 2]]
    assert chosen(except_tokens({10, 12}), positions) == [[1, 3, 4], [1]]
    assert chosen(all_of(on_prompt(), except_tokens({10})), positions, 3) == [[1, 2], [1, 2]]
    mask = torch.tensor([[True, False, False, True, True], [False, True, True, True, True]])
    assert chosen(at(mask), positions) == [[0, 3, 4], [1, 2]]
    assert everywhere()(context(positions)) is None
    assert all_of(everywhere(), everywhere())(context(positions)) is None


def test_places_of_the_prompt_stay_when_the_text_grows() -> None:
    assert chosen(indices(-1, 0), RIGHT, 3) == [[0, 2], [0, 2]]
    assert chosen(spans([(1, 3)]), RIGHT, 3) == [[1, 2], [1, 2]]
    step = torch.tensor([[5], [3]])  # one new token each, behind a cache
    for rule in (indices(-1, 0), spans([(1, 3)]), on_prompt()):
        assert chosen(rule, step, 3) == [[], []]
    assert chosen(on_generated(), step, 3) == [[5], [3]]
    assert chosen(at(torch.ones(1, 4, dtype=torch.bool)), step, 3) == [[], [3]]


def test_packed_documents_count_for_themselves() -> None:
    assert chosen(indices(0), PACKED) == [[0, 0]]
    assert chosen(indices(-1), PACKED) == [[2, 3]]
    for rule in (indices(3), spans([(2, 4)])):  # the first has three tokens
        with pytest.raises(InputError, match=r"outside a text that is packed into row 0: its prompt has 3 tokens"):
            rule(context(PACKED))
    for act in (lambda x, c: at(MASK[:1])(c), add(normal(1, 7, D)), set_latents(DENSE, {1: normal(1, 7)})):
        with pytest.raises(InputError, match="a row of this batch holds several texts"):
            act(normal(1, 7, D), context(PACKED))


def test_places_outside_the_text_are_refused() -> None:
    for positions in (LEFT, RIGHT):
        with pytest.raises(InputError, match="position 3 is outside text 1 of the batch: its prompt has 3"):
            indices(0, 3)(context(positions))
        with pytest.raises(InputError, match="position -4 is outside text 1"):
            indices(-4)(context(positions))
        with pytest.raises(InputError, match=r"span \[2, 4\) is outside text 1"):
            spans([(0, 1), (2, 4)])(context(positions))
        with pytest.raises(InputError, match=r"position 4 is outside text 0 .* 4 tokens"):
            indices(4)(context(positions, 4))
        with pytest.raises(InputError, match="a mask for 4 positions; text 0 of the batch has 5"):
            at(MASK[:1, :4])(context(positions))
    with pytest.raises(InputError, match="spans for 3 texts in a batch of 2"):
        spans([(0, 1)], [(0, 1)], [(0, 1)])(context(LEFT))
    with pytest.raises(InputError, match="values for 3 texts in a batch of 2"):
        add(normal(3, D))(normal(2, 5, D), context(LEFT))
    with pytest.raises(
        InputError, match=r"positions are for \[2, 5\] \[batch, position\], the activation is \[2, 4, 16\]"
    ):
        add(normal(D), positions=on_prompt())(normal(2, 4, D), context(LEFT))


def test_rules_that_say_nothing_are_refused() -> None:
    for make in (indices, spans, all_of, lambda: spans([]), lambda: spans([(2, 2)]), lambda: spans([(-1, 2)])):
        with pytest.raises(InputError, match=r"no position|no span|is no span|no rule"):
            make()


def test_rules_say_what_they_select() -> None:
    words = {name: str(make([0, 1, 2])) for name, make in RULES.items()}
    assert words["indices"] == "at positions 0, 2, -1 of the prompt"
    assert words["spans"] == "in [0, 2), [3, 4) of the prompt"
    assert words["spans of each"] == "in 5 spans of 3 prompts"
    assert words["tokens"] == "on tokens 3, 4, 5, 6, 7, 8, 9, 10, …"
    assert words["mask of all"] == f"at {int(MASK[0].sum())} of 1 × 8 positions"
    assert words["all of"].startswith("on the prompt and everywhere and everywhere except on token")
    assert len(set(words.values())) == len(words)


def test_heads_and_attention_weights_have_their_positions_on_their_own_axes() -> None:
    here = context(RIGHT)
    z, pattern = normal(2, 5, 4, D), normal(2, 4, 5, 5)
    changed = (add(normal(D), positions=indices(-1))(z, here) != z).flatten(2).any(-1)
    assert changed.nonzero().tolist() == [[0, 4], [1, 2]]
    values = normal(2, 5, D)
    assert torch.equal(add(values)(z, here)[0, :, 3], z[0, :, 3] + values[0])
    there = Context(here.tokens, here.positions, here.mask, here.generated, site="blocks.0.attn_pattern")
    changed = (add(normal(5), positions=indices(-1))(pattern, there) != pattern).any(-1).any(1)
    assert changed.nonzero().tolist() == [[0, 4], [1, 2]]
    assert torch.equal(add(normal(2, 5, 5))(pattern, there)[0, 3], pattern[0, 3] + normal(2, 5, 5)[0])
