"""Laws of generation: a cache changes nothing, padding changes nothing, company changes nothing, edits or not."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from sae.core.errors import InputError
from sae.lm import Context, Edit, Generated, Greedy, Sampled, editing, generate, sites_of
from sae.lm.families import family_of
from sae.lm.generate import Padding
from sae.lm.tiny import N_VOCAB, tiny

N_TOKENS = 5
PROMPTS = [
    torch.randint(3, N_VOCAB, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (9, 2, 5, 1)
]
WAYS: list[tuple[Padding, bool]] = [("left", True), ("left", False), ("right", True), ("right", False)]
ALONG = torch.linspace(-1, 1, 16)


def shift(x: Tensor, context: Context) -> Tensor:
    return x + 0.5 * ALONG


def by_position(x: Tensor, context: Context) -> Tensor:
    return x + context.positions.clamp(min=0)[..., None] * ALONG / 8


def when_generated(x: Tensor, context: Context) -> Tensor:
    return torch.where(context.generated[..., None], -x, x)


def by_token(x: Tensor, context: Context) -> Tensor:
    assert context.tokens is not None
    return torch.where((context.tokens % 2 == 0)[..., None], x * 1.5, x)


def third(x: Tensor, context: Context) -> Tensor:
    return torch.where((context.positions == 2)[..., None], torch.zeros_like(x), x)


EDITS: dict[str, Mapping[str, Edit | Sequence[Edit]]] = {
    "none": {},
    "several": {
        "blocks.0.resid_pre": [third, by_position],
        "blocks.0.mlp_out": by_token,
        "blocks.1.resid_mid": when_generated,
        "blocks.2.mlp_in": when_generated,
        "final": shift,
    },
}


@pytest.fixture
def causal(model: nn.Module) -> nn.Module:
    if not family_of(model).causal:
        pytest.skip("an encoder generates nothing")
    return model


def tokens(generated: Generated) -> list[list[int]]:
    return [row.tolist() for row in generated.tokens]


@pytest.mark.parametrize(
    ("edits", "choice"), [("none", Greedy()), ("several", Greedy()), ("several", Sampled(seed=3, temperature=0.7))]
)
def test_cache_padding_and_company_change_nothing(causal: nn.Module, edits: str, choice: Greedy | Sampled) -> None:
    there = sites_of(causal)
    with editing(causal, {site: edit for site, edit in EDITS[edits].items() if site in there}):
        alone = [tokens(generate(causal, [prompt], N_TOKENS, choice, cache=False))[0] for prompt in PROMPTS]
        for padding, cache in WAYS:
            together = tokens(generate(causal, PROMPTS, N_TOKENS, choice, padding, cache))
            assert together == alone, (padding, cache)


def test_greedy_is_the_most_probable_token(causal: nn.Module) -> None:
    (new,) = tokens(generate(causal, PROMPTS[:1], N_TOKENS))
    text = torch.tensor([PROMPTS[0] + new])
    assert causal(input_ids=text).logits[0, len(PROMPTS[0]) - 1 : -1].argmax(-1).tolist() == new


def test_same_as_transformers_where_it_fits(causal: nn.Module) -> None:
    ours = tokens(generate(causal, PROMPTS[:1], N_TOKENS))
    theirs = causal.generate(  # pyright: ignore[reportCallIssue]
        torch.tensor(PROMPTS[:1]), max_new_tokens=N_TOKENS, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    assert theirs[0, len(PROMPTS[0]) :].tolist() == ours[0]


@pytest.mark.parametrize(("padding", "cache"), WAYS)
def test_contexts_know_positions_mask_and_phase(causal: nn.Module, padding: Padding, cache: bool) -> None:
    seen: dict[int, set[tuple[int, bool]]] = {row: set() for row in range(len(PROMPTS))}

    def look(x: Tensor, context: Context) -> Tensor:
        for row, here in seen.items():
            real = context.mask[row]
            here |= set(zip(context.positions[row][real].tolist(), context.generated[row][real].tolist(), strict=True))
            assert (context.positions[row][~real] == -1).all()
        return x

    with editing(causal, {"final": look}):
        generate(causal, PROMPTS, N_TOKENS, padding=padding, cache=cache)
    for row, prompt in enumerate(PROMPTS):  # the last token is chosen and never read
        assert seen[row] == {(at, at >= len(prompt)) for at in range(len(prompt) + N_TOKENS - 1)}


@pytest.mark.parametrize(("padding", "cache"), WAYS)
def test_stop_tokens_end_their_own_text_only(padding: Padding, cache: bool) -> None:
    model = tiny("llama")
    free = tokens(generate(model, PROMPTS, N_TOKENS))
    stop = free[0][2]
    cut = [row[: row.index(stop) + 1] if stop in row else row for row in free]
    got = generate(model, PROMPTS, N_TOKENS, Greedy(), padding, cache, stop={stop})
    assert tokens(got) == cut
    assert got.stopped == [stop in row for row in free]


def test_sampling_follows_the_distribution_and_the_seed() -> None:
    model = tiny("llama")
    prompt, n = [5, 9, 7], 2000
    logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    first = torch.stack(generate(model, [prompt] * n, 1, Sampled(seed=1)).tokens)[:, 0]
    share = torch.bincount(first, minlength=N_VOCAB) / n
    expected = logits.softmax(-1)
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt() + 1e-3).all()
    assert tokens(generate(model, [prompt], 9, Sampled(seed=1))) == tokens(generate(model, [prompt], 9, Sampled(1)))
    assert tokens(generate(model, [prompt], 9, Sampled(seed=1))) != tokens(generate(model, [prompt], 9, Sampled(2)))
    cold = tokens(generate(model, [prompt], 9, Sampled(seed=1, temperature=1e-4)))
    assert cold == tokens(generate(model, [prompt], 9))


def test_nothing_to_add() -> None:
    assert tokens(generate(tiny("llama"), PROMPTS, 0)) == [[]] * 4


@pytest.mark.parametrize(
    ("prompts", "n_tokens", "message"),
    [
        ([], 1, "at least one prompt"),
        ([[3], []], 1, "each of at least one token"),
        ([[3, 48]], 1, "prompt 0 has token ids outside the model's 0 to 47"),
        ([[3, 4]], 63, "a prompt of 2 tokens and 63 new ones; the model was made for 64"),
    ],
)
def test_bad_input(prompts: list[list[int]], n_tokens: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(tiny("llama"), prompts, n_tokens)


def test_other_bad_input() -> None:
    model = tiny("llama")
    with pytest.raises(InputError, match="temperature 0"):
        Sampled(seed=0, temperature=0.0)
    with (
        pytest.raises(InputError, match="logits after prompt 0 are not finite"),
        editing(model, {"final": lambda x, context: x * torch.nan}, finite=False),
    ):
        generate(model, PROMPTS, 1)


def test_encoders_generate_nothing() -> None:
    with pytest.raises(InputError, match="encoder: it generates nothing"):
        generate(tiny("modernbert"), PROMPTS, 1)
