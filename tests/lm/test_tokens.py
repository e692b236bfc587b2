"""Which tokens stand for no text, and which begin a document or a window."""

from collections.abc import Callable

import numpy as np
import pytest

from sae.core.errors import InputError
from sae.lm import LoadedModel, prefix_of, special_ids, special_mask
from sae.lm.tokens import Prefix, prefix_ids


def test_unknown_words_are_text_and_no_special_tokens(of_words: Callable[..., LoadedModel]) -> None:
    tokenizer = of_words().tokenizer
    assert special_ids(tokenizer) == {1, 2}
    assert special_mask(tokenizer, np.array([[1, 0, 4], [5, 2, 1]])).tolist() == [
        [True, False, False],
        [False, True, True],
    ]


def test_what_begins_a_document_or_window(of_words: Callable[..., LoadedModel]) -> None:
    """`bos=False` is a tokenizer that has a BOS token and does not write it, as GPT-2's."""
    for bos, own in ((True, (1,)), (False, ())):
        tokenizer = of_words(bos).tokenizer
        assert prefix_ids(tokenizer) == list(own)
        assert prefix_of(tokenizer, "tokenizer") == Prefix(document=own)
        assert prefix_of(tokenizer, "document") == Prefix(document=(1,))
        assert prefix_of(tokenizer, "window") == Prefix(window=(1,))
        assert prefix_of(tokenizer, "none") == Prefix()


@pytest.mark.parametrize("bos", ["document", "window"])
def test_bos_that_the_tokenizer_lacks_is_refused(without_bos: LoadedModel, bos: str) -> None:
    assert prefix_of(without_bos.tokenizer, "tokenizer") == Prefix()
    with pytest.raises(InputError, match=f"bos '{bos}': this tokenizer has no BOS token; harvest.bos may be tokenizer"):
        prefix_of(without_bos.tokenizer, bos)  # pyright: ignore[reportArgumentType]
