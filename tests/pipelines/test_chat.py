"""Conversations become the text that the model's own template writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pipelines.chat import chat_renderer
from pipelines.config import TextConfig
from pipelines.text import read_corpus
from sae.core.errors import InputError
from sae.lm.corpus import Text
from sae.lm.documents import Documents

TEMPLATE = "<bos>{% for m in messages %} {{ m.role }} says {{ m.content }} .{% endfor %}"
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('the user begins') }}{% endif %}" + TEMPLATE
TALK = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "goodbye"}]
SAID = "<bos> user says hello . assistant says goodbye ."


def tokenizer(chat_template: Any = None) -> PreTrainedTokenizerFast:
    words = ["<unk>", "<bos>", "user", "assistant", "says", "hello", "goodbye", "."]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", unk_token="<unk>", chat_template=chat_template
    )


def test_the_tokenizers_own_template(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"talk": TALK, "group": "g"}) + "\n")
    config = TextConfig(source=str(file), column="talk", chat_template="default")
    texts = list(read_corpus(config, lambda: tokenizer(TEMPLATE)))
    assert texts == [Text(SAID, "g")]
    (document,) = Documents(tokenizer(), read_corpus(config, lambda: tokenizer(TEMPLATE)), prefix=(1,))
    assert document.ids.tolist() == [1, 2, 4, 5, 7, 3, 4, 6, 7]  # the template's BOS, and no other


def test_messages_in_parquet(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list([{"messages": TALK}]).to_parquet(str(tmp_path / "a.parquet"))
    config = TextConfig(source=str(tmp_path / "a.parquet"), column="messages", chat_template="default")
    assert [text.text for text in read_corpus(config, lambda: tokenizer(TEMPLATE))] == [SAID]


def test_a_template_by_name_and_by_file(tmp_path: Path) -> None:
    several = tokenizer({"default": "no", "plain": TEMPLATE})
    assert chat_renderer(several, "plain")(TALK, "here") == SAID
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    assert chat_renderer(tokenizer(), str(tmp_path / "t.jinja"))(TALK, "here") == SAID
    with pytest.raises(InputError, match=r"no chat template 'plan'; did you mean 'plain'\? The tokenizer has default"):
        chat_renderer(several, "plan")


def test_templates_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tokenizer has no chat template; give a file with one"):
        chat_renderer(tokenizer(), "default")
    with pytest.raises(InputError, match=r"no chat template at .*t.jinja \(key text.chat_template\)"):
        chat_renderer(tokenizer(), str(tmp_path / "t.jinja"))
    with pytest.raises(InputError, match="is no chat template in UTF-8"):
        chat_renderer(tokenizer(), str(tmp_path))


@pytest.mark.parametrize(
    ("messages", "template", "says"),
    [
        ("hello", TEMPLATE, "needs messages, a list of objects with `role` and `content` .*, got 'hello'"),
        ([], TEMPLATE, "needs messages"),
        ([{"from": "human", "value": "hello"}], TEMPLATE, "needs messages"),
        ([{"role": "system", "content": ""}], STRICT, "cannot render it: the user begins"),
        (TALK, "{% if %}", "cannot render it"),
        (TALK, "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "cannot render it: .*recursion"),
        (TALK, "{{ 'a' * 10**18 }}", "cannot render it: MemoryError"),
    ],
)
def test_what_cannot_be_rendered_is_named_by_its_place(messages: object, template: str, says: str) -> None:
    with pytest.raises(InputError, match=f"^a.jsonl, line 3: .*{says}"):
        chat_renderer(tokenizer(template), "default")(messages, "a.jsonl, line 3")
