"""Single tokens as the text they stand for, with the space that belongs to them."""

from typing import Any


class TokenText:
    """Token ids to text, remembered.

    Tokenizers drop the space before the first token that they decode, so each token is decoded after an anchor, whose
    own text is then cut off. An id that stands for no text (a row of the head without a token) is shown as `<id>`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._start = len(self._decode(self._anchor))
        self._texts: dict[int, str] = {}

    def __call__(self, token_id: int) -> str:
        if token_id not in self._texts:
            self._texts[token_id] = self._decode([*self._anchor, token_id])[self._start :] or f"<{token_id}>"
        return self._texts[token_id]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
