"""Laws of every operation under every position rule in a model that generates."""

import functools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sae.intervention import Intervention, Operation, ablate, add, applying, at, indices, on_generated
from sae.lm import editing, generate, reading
from sae.lm.families import FAMILIES
from sae.lm.tiny import TINY, tiny

from .conftest import CASES, DIRECTION, LONGEST, MASK, OPERATIONS, PROMPTS, SITE, SOURCE, Case, SideBySide, normal

N_NEW = 3
ALL = (0, 1, 2)
WAYS = [("left", False), ("right", True), ("right", False)]
"""Of padding and caching, beside left and cached."""
DECODERS = [name for name, (model_type, _) in TINY.items() if FAMILIES[model_type].causal]


@functools.cache
def model_of(name: str) -> nn.Module:
    return tiny(name)


def continued(name: str, operation: Operation, texts: Sequence[int] = ALL, **how: Any) -> list[list[int]]:
    with applying(model_of(name), Intervention({SITE: [operation]})):
        found = generate(model_of(name), [PROMPTS[text] for text in texts], N_NEW, **how)
    return [tokens.tolist() for tokens in found.tokens]


Found = dict[str, list[list[int]]]
"""What followed each text, by case."""


def all_continued(name: str, cases: Sequence[Case], texts: Sequence[int] = ALL, **how: Any) -> Found:
    """As `continued`, each case by itself, in one go."""
    with editing(model_of(name), {SITE: SideBySide(cases, texts)}, capture=[SOURCE]):
        found = generate(model_of(name), [PROMPTS[text] for _ in cases for text in texts], N_NEW, **how).tokens
    rows = iter(tokens.tolist() for tokens in found)
    return {" / ".join(case): [next(rows) for _ in texts] for case in cases}


def of(text: int, found: Found) -> Found:
    return {case: [rows[text]] for case, rows in found.items()}


def test_cases_side_by_side_are_what_each_is_by_itself() -> None:
    cases = CASES[::23]
    found = all_continued("llama", cases)
    assert found == {" / ".join(case): continued("llama", case.made()) for case in cases}
    assert len({str(rows) for rows in found.values()}) > len(cases) / 2  # the operations make a difference


@pytest.mark.parametrize("operation", OPERATIONS)
def test_generation_is_the_same_with_a_cache_under_either_padding_and_alone(operation: str) -> None:
    cases = [case for case in CASES if case.operation == operation]
    together = all_continued("llama", cases)
    assert all_continued("llama", cases, padding="right", cache=False) == together
    assert all_continued("llama", cases, [1]) == of(1, together)  # of a length that the batch pads


@pytest.mark.parametrize("number", range(len(DECODERS)), ids=DECODERS)
def test_every_way_of_generating_agrees_in_every_family(number: int) -> None:
    """Each family has its share of operations and rules, so that all of them are had by some."""
    name, cases = DECODERS[number], CASES[number :: len(DECODERS)]
    together = all_continued(name, cases)
    for padding, cache in (WAYS[number % 2], WAYS[2]):
        assert all_continued(name, cases, padding=padding, cache=cache) == together
    text = number % len(ALL)
    assert all_continued(name, cases, [text]) == of(text, together)


def laid_out(padding: str) -> tuple[Tensor, Tensor]:
    ids, mask = torch.zeros(3, LONGEST, dtype=torch.long), torch.zeros(3, LONGEST, dtype=torch.long)
    for row, prompt in enumerate(PROMPTS):
        place = slice(None, len(prompt)) if padding == "right" else slice(LONGEST - len(prompt), None)
        ids[row, place], mask[row, place] = prompt, 1
    return ids, mask


@pytest.mark.parametrize("operation", OPERATIONS)
def test_batched_activations_are_those_of_each_text_alone(operation: str) -> None:
    model, cases = model_of("llama"), [case for case in CASES if case.operation == operation]
    alone = []
    for text, prompt in enumerate(PROMPTS):
        edits = {SITE: SideBySide(cases, [text])}
        with reading(model, ["final"]) as captured, editing(model, edits, capture=[SOURCE]):
            model(input_ids=prompt.expand(len(cases), -1))
        alone.append(captured["final"])
    for padding in ("left", "right"):
        ids, mask = (x.repeat(len(cases), 1) for x in laid_out(padding))
        edits = {SITE: SideBySide(cases, ALL)}
        with reading(model, ["final"]) as captured, editing(model, edits, capture=[SOURCE]):
            model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
        texts = torch.cat([alone[text][case] for case in range(len(cases)) for text in ALL])
        torch.testing.assert_close(captured["final"][mask.bool()], texts, atol=2e-4, rtol=1e-4)


def test_the_phase_decides_what_changes() -> None:
    plain = generate(model_of("llama"), PROMPTS, N_NEW).tokens
    pushed = continued("llama", add(20 * normal(16, seed=2), positions=on_generated()))
    assert [tokens[0] for tokens in pushed] == [int(tokens[0]) for tokens in plain]
    assert pushed != [tokens.tolist() for tokens in plain]
    assert continued("llama", add(DIRECTION, 0.0)) == [tokens.tolist() for tokens in plain]


def test_the_last_token_of_the_prompt_stays_the_last_of_the_prompt() -> None:
    """Without a cache the text grows behind it."""
    seen: list[list[list[int]]] = []
    operation = add(DIRECTION, 1.0, indices(-1))

    class Spy:
        def __call__(self, x: Tensor, context) -> Tensor:
            y = operation(x, context)
            seen.append((y != x).any(-1).nonzero().tolist())
            return y

    with editing(model_of("llama"), {SITE: Spy()}):
        generate(model_of("llama"), PROMPTS, 3, padding="right", cache=False)
    assert seen == [[[row, len(prompt) - 1] for row, prompt in enumerate(PROMPTS)]] * 3


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "site", ["embed", *(f"blocks.1.{at}" for at in ("attn_q", "attn_pattern", "attn_z", "attn_heads", "mlp_hidden"))]
)
def test_places_inside_a_block_are_edited_at_the_same_tokens(name: str, site: str) -> None:
    model = model_of(name)
    for rule in (indices(0, -1), on_generated(), at(MASK)):
        edits = Intervention({site: [ablate(positions=rule)]})
        with applying(model, edits):
            together = generate(model, PROMPTS, N_NEW)
            other = generate(model, PROMPTS, N_NEW, padding="right", cache=False)
        assert [one.tolist() for one in together.tokens] == [one.tolist() for one in other.tokens]
    with applying(model, Intervention({site: [ablate(positions=indices(0, -1))]})), reading(model, [site]) as captured:
        model(input_ids=torch.stack([PROMPTS[1], PROMPTS[1].flip(0)]))
    x = captured[site].movedim(2, 1) if site.endswith("attn_pattern") else captured[site]
    assert (x.flatten(2) == 0).all(-1).tolist() == [[True, False, False, True]] * 2


@pytest.mark.parametrize("operation", ["add direction", "set latents", "splice transcoder", "project out to mean"])
@pytest.mark.parametrize("rule", ["everywhere", "prompt", "generated", "indices", "mask"])
def test_the_model_s_own_generate_says_the_same(operation: str, rule: str) -> None:
    model, case = model_of("llama"), Case(operation, rule)
    ids, mask = laid_out("left")
    with applying(model, Intervention({SITE: [case.made()]})):
        inputs = {"input_ids": ids, "attention_mask": mask, "pad_token_id": 0}
        theirs = model.generate(**inputs, max_new_tokens=N_NEW, do_sample=False)  # type: ignore[operator]
    assert theirs[:, LONGEST:].tolist() == continued("llama", case.made())
