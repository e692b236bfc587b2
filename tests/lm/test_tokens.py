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


def test_windows_of_an_encoder_stand_between_what_its_tokenizer_writes(of_words: Callable[..., LoadedModel]) -> None:
    for bos, own in ((True, Prefix(window=(1,), window_end=(2,))), (False, Prefix())):
        tokenizer = of_words(bos).tokenizer
        assert prefix_of(tokenizer, "tokenizer", encoder=True) == own
        assert prefix_of(tokenizer, "none", encoder=True) == Prefix()
        with pytest.raises(InputError, match="an encoder's special tokens stand around every window"):
            prefix_of(tokenizer, "document", encoder=True)
    assert prefix_of(of_words(True).tokenizer, "window", encoder=True) == Prefix(window=(1,), window_end=(2,))
    with pytest.raises(InputError, match="bos 'window': this tokenizer puts nothing before a text"):
        prefix_of(of_words(False).tokenizer, "window", encoder=True)
    assert [Prefix().least_window, Prefix((1,)).least_window, Prefix((), (1,), (2, 2)).least_window] == [1, 2, 4]


@pytest.mark.parametrize("bos", ["document", "window"])
def test_bos_that_the_tokenizer_lacks_is_refused(without_bos: LoadedModel, bos: str) -> None:
    assert prefix_of(without_bos.tokenizer, "tokenizer") == Prefix()
    with pytest.raises(InputError, match=f"bos '{bos}': this tokenizer has no BOS token; harvest.bos may be tokenizer"):
        prefix_of(without_bos.tokenizer, bos)  # pyright: ignore[reportArgumentType]
