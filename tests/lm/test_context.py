"""What an edit is told of the pass: positions, padding and phase, however the model is called."""

from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from sae.lm import Context, context_of, editing
from sae.lm.tiny import tiny

LENGTHS = torch.tensor([5, 2, 3])
RIGHT = torch.arange(5) < LENGTHS[:, None]
IDS = torch.arange(15).reshape(3, 5)


def contexts(model: nn.Module) -> tuple[list[Context], AbstractContextManager[None]]:
    """A list that fills with the context of each pass, and the `editing` that fills it."""
    seen: list[Context] = []

    def look(x: Tensor, context: Context) -> Tensor:
        seen.append(context)
        return x

    return seen, editing(model, {"final": look})


def test_positions_count_real_tokens_under_either_padding() -> None:
    right = context_of({"input_ids": IDS, "attention_mask": RIGHT.long()})
    left = context_of({"input_ids": IDS, "attention_mask": RIGHT.flip(1)})
    assert right.positions.tolist() == [[0, 1, 2, 3, 4], [0, 1, -1, -1, -1], [0, 1, 2, -1, -1]]
    assert left.positions.tolist() == [[0, 1, 2, 3, 4], [-1, -1, -1, 0, 1], [-1, -1, 0, 1, 2]]
    assert torch.equal(left.mask, RIGHT.flip(1))


def test_without_a_mask_everything_is_real() -> None:
    here = context_of({"input_ids": IDS})
    assert here.mask.all()
    assert here.positions.tolist() == [list(range(5))] * 3
    embedded = context_of({"inputs_embeds": torch.zeros(2, 4, 7)})
    assert embedded.tokens is None
    assert embedded.positions.tolist() == [list(range(4))] * 2


def test_position_ids_restart_as_they_were_given() -> None:
    packed = torch.tensor([[0, 1, 0, 1, 2]])
    assert context_of({"input_ids": IDS, "position_ids": packed}).positions.tolist() == packed.tolist() * 3
    masked = context_of({"input_ids": IDS, "position_ids": packed, "attention_mask": RIGHT})
    assert masked.positions.tolist()[1] == [0, 1, -1, -1, -1]


@pytest.mark.parametrize("padding", ["right", "left"])
def test_a_cache_goes_on_where_it_stopped(padding: str) -> None:
    model = tiny("llama")
    mask = (RIGHT if padding == "right" else RIGHT.flip(1)).long()
    seen, looking = contexts(model)
    with looking:
        past = model(IDS, attention_mask=mask, use_cache=True).past_key_values
        longer = torch.cat([mask, torch.tensor([[1, 1], [1, 0], [1, 1]])], dim=1)
        model(IDS[:, :2], attention_mask=longer, past_key_values=past)
    assert seen[1].positions.tolist() == [[5, 6], [2, -1], [3, 4]]
    assert not seen[0].generated.any()
    assert torch.equal(seen[1].generated, seen[1].mask)


def test_phase_is_right_in_plain_generation_with_a_cache() -> None:
    model = tiny("llama")
    seen, looking = contexts(model)
    with looking:
        model.generate(  # pyright: ignore[reportCallIssue]
            IDS, attention_mask=RIGHT.flip(1).long(), max_new_tokens=3, do_sample=False, pad_token_id=0
        )
    assert [context.generated.all().item() for context in seen] == [False, True, True]
    assert [context.positions[:, -1].tolist() for context in seen] == [[4, 1, 2], [5, 2, 3], [6, 3, 4]]


def test_prompt_lengths_tell_the_phase_without_a_cache() -> None:
    here = context_of({"input_ids": IDS, "attention_mask": RIGHT}, prompt_lengths=torch.tensor([3, 2, 1]))
    assert here.generated.tolist() == [
        [False, False, False, True, True],
        [False] * 5,
        [False, True, True, False, False],
    ]


def test_arguments_given_by_place_are_understood() -> None:
    model = tiny("llama")
    seen, looking = contexts(model)
    with looking:
        model(IDS, RIGHT.long())
    assert torch.equal(seen[0].mask, RIGHT)
