"""Labelled texts in tokens, on a tokenizer of words, one of bytes, and the real small model's SentencePiece."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sae.core.errors import InputError
from sae.core.records import Consequence, LabelledText, Twin
from sae.lm import LoadedModel, encode, encode_labelled, encode_twin, span_tokens, token_at
from sae.lm.labelled import unusable
from sae.lm.tiny import tiny


def labelled(text: str, word: str, consequence: dict[str, str] | None = None, **more: Any) -> LabelledText:
    start = text.index(word)
    label = next(iter(consequence)) if consequence else "x"
    follows = None
    if consequence:
        follows = Consequence(position=text.rindex(consequence[label]), tokens=consequence)
    return LabelledText(
        text=text, variable="v", label=label, span=(start, start + len(word)), consequence=follows, **more
    )


def of_bytes(trim_offsets: bool) -> LoadedModel:
    """Bytes without merges but for a few words, offsets with or without the space before a word, as in GPT-2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges, vocabulary = [], dict.fromkeys(alphabet)
    for word in ("Ġshe", "Ġhe", "Ġgirl", "Ġa"):
        whole = word[0]
        for letter in word[1:]:
            merges.append((whole, letter))
            whole += letter
            vocabulary[whole] = None
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, list(dict.fromkeys(merges))))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    return LoadedModel(tiny("llama"), PreTrainedTokenizerFast(tokenizer_object=tokenizer), "0" * 64, "bytes")


def words(loaded: LoadedModel, ids: list[int]) -> list[str]:
    return [loaded.tokenizer.decode([i]).strip() for i in ids]


def test_words_span_prediction_and_targets(of_words: Callable[..., LoadedModel]) -> None:
    for bos in (True, False):
        loaded = of_words(bos)
        text = labelled("the girl saw a film . she is good", "girl", {"girl": " she", "boy": " he"})
        found = encode_labelled(loaded, text)
        assert words(loaded, found.ids[slice(*found.span)].tolist()) == ["girl"]
        assert found.last == found.span[0] == 1 + bos
        assert found.prediction is not None
        assert words(loaded, [found.ids[found.prediction.position]]) == ["."]
        assert {key: words(loaded, [i]) for key, i in found.prediction.targets.items()} == {
            "girl": ["she"],
            "boy": ["he"],
        }
        assert found.ids[found.prediction.position + 1] == found.prediction.targets["girl"]


def test_a_text_for_an_encoder_ends_as_its_tokenizer_ends_it(of_words: Callable[..., LoadedModel]) -> None:
    decoder, encoder = of_words(), replace(of_words(), model=tiny("bert"))
    text = labelled("the girl saw a film . she is good", "girl", {"girl": " she", "boy": " he"})
    theirs, ours = encode_labelled(decoder, text), encode_labelled(encoder, text)
    assert ours.ids.tolist() == [*theirs.ids.tolist(), 2] == encoder.tokenizer(text.text)["input_ids"]
    assert ours.offsets.tolist() == [*theirs.offsets.tolist(), [0, 0]]
    assert (ours.span, ours.last) == (theirs.span, theirs.last)
    assert ours.prediction is not None
    assert theirs.prediction is not None
    assert (ours.prediction.position, ours.prediction.targets) == (
        theirs.prediction.position,
        theirs.prediction.targets,
    )
    with pytest.raises(InputError, match=f"last token, which ends at {len(text.text)}"):
        token_at(ours.offsets, len(text.text))


@pytest.mark.parametrize("trim_offsets", [True, False])
def test_bytes_with_and_without_the_space_in_the_offsets(trim_offsets: bool) -> None:
    loaded = of_bytes(trim_offsets)
    found = encode_labelled(loaded, labelled("see a girl, she", "girl", {"girl": " she", "boy": " he"}))
    assert words(loaded, found.ids[slice(*found.span)].tolist()) == ["girl"]
    assert found.prediction is not None
    assert words(loaded, [found.ids[found.prediction.position]]) == [","]
    assert found.ids[found.prediction.position + 1] == found.prediction.targets["girl"]
    assert len(set(found.prediction.targets.values())) == 2


def test_labels_with_one_first_token_are_refused() -> None:
    loaded = of_bytes(trim_offsets=True)
    text = labelled("see a girl, xyz", "girl", {"one": " xyz", "two": " xab"})
    with pytest.raises(InputError, match=r"'see a girl, xyz': labels 'one' and 'two' begin with the same token"):
        encode_labelled(loaded, text)
    assert set(unusable(loaded, [text, labelled("a girl", "girl")])) == {0}


def test_consequence_inside_a_token_is_refused() -> None:
    text = labelled("see a girl, she", "girl", {"girl": "he", "boy": "it"})
    with pytest.raises(InputError, match="label 'girl' does not begin with a token of its own"):
        encode_labelled(of_bytes(trim_offsets=True), text)


def test_consequence_with_nothing_before_it_is_refused() -> None:
    span, follows = (0, 0), Consequence(position=0, tokens={"x": "a"})
    text = LabelledText.model_construct(text="a girl", variable="v", label="x", span=(0, 1), consequence=follows)
    assert span != text.span
    with pytest.raises(InputError, match="nothing predicts it"):
        encode_labelled(of_bytes(trim_offsets=True), text)


def test_twins_are_encoded_like_texts(of_words: Callable[..., LoadedModel]) -> None:
    twin = Twin(text="the boy is good", label="boy", span=(4, 7))
    found = encode_twin(of_words(), labelled("the girl is good", "girl", twin=twin, group="g"))
    assert words(of_words(), found.ids[slice(*found.span)].tolist()) == ["boy"]
    assert (found.source.label, found.source.group) == ("boy", "g")
    with pytest.raises(InputError, match="no counterfactual twin"):
        encode_twin(of_words(), labelled("the girl is good", "girl"))


def test_characters_to_tokens(of_words: Callable[..., LoadedModel]) -> None:
    offsets = encode(of_words(), "the girl is good").offsets  # <bos> the girl is good
    assert [token_at(offsets, character) for character in (0, 2, 3, 4, 7, 15)] == [1, 1, 2, 2, 2, 4]
    assert span_tokens(offsets, (4, 11)) == (2, 4)
    with pytest.raises(InputError, match="no token shares a character with the span"):
        span_tokens(offsets, (3, 4))
    with pytest.raises(InputError, match="behind the last token, which ends at 16"):
        token_at(offsets, 16)


def test_real_sentencepiece(stories: LoadedModel) -> None:
    story = "Once there was a girl. Lily was very happy. She ran to the park."
    found = encode_labelled(stories, labelled(story, "girl", {"girl": " She", "boy": " He"}))
    tokens = stories.tokenizer.convert_ids_to_tokens
    assert tokens(found.ids[slice(*found.span)].tolist()) == ["▁g", "ir", "l"]
    assert found.prediction is not None
    assert tokens([int(found.ids[found.prediction.position])]) == ["."]
    assert tokens(list(found.prediction.targets.values())) == ["▁She", "▁He"]
    assert found.ids[found.prediction.position + 1] == found.prediction.targets["girl"]
    first = encode_labelled(stories, labelled(story, "Once"))
    assert first.span == (1, 2)
