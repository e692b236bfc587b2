"""Whatever holds the text, the same texts come out; what is wrong is named by file and row."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pytest
from datasets import Dataset, load_dataset_builder
from pyarrow import ipc, parquet

from pipelines import text as module
from pipelines.config import TextConfig, read_experiment
from pipelines.rows import SUFFIXES
from pipelines.text import read_corpus, stream_rows, text_key
from sae.core.errors import InputError, WorldError
from sae.lm.corpus import Text

SAID = ["A first text.", 'It said "no",\ntwice; über und über.', "123", "A first text."]
ROWS = [{"text": said, "group": f"g{i}", "n": i} for i, said in enumerate(SAID)]


def no_tokenizer() -> None:
    raise AssertionError("nothing asks for the tokenizer")


def read(source: Path, **settings: object) -> list[Text]:
    config = TextConfig.model_validate({"source": str(source), "shuffle_buffer": 0, **settings})
    return list(read_corpus(config, no_tokenizer))


def write_json_lines(file: Path) -> None:
    file.write_text("".join(json.dumps(row) + "\n\n" for row in ROWS), encoding="utf-8")


def write_csv(file: Path) -> None:
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(file: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), file, row_group_size=3)


def write_arrow(file: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.OSFile(str(file), "wb") as sink, ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_saved_dataset(file: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(str(file))


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.jsonl": write_json_lines,
    "a.csv": write_csv,
    "a.parquet": write_parquet,
    "a.arrow": write_arrow,
    "saved by datasets": write_saved_dataset,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_texts(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert read(tmp_path / name) == [Text(said, f"g{i}") for i, said in enumerate(SAID)]
    with pytest.raises(InputError) as caught:
        read(tmp_path / name, column="said")
    assert str(tmp_path / name) in str(caught.value)
    assert "no text in column 'said' (key text.column)" in str(caught.value)
    assert "text" in str(caught.value).split("columns are")[1]
    with pytest.raises(InputError, match=r"no text in column"):
        read(tmp_path / name, column="missing")


def test_a_text_file_holds_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffOne\r\nmore.\r\n \r\n\nTwo.\n".encode())
    assert [text.text for text in read(tmp_path / "a.txt")] == ["One\r\nmore.", "Two."]


def bad_parquet(file: Path) -> None:
    parquet.write_table(bad_table(), file)


def bad_arrow(file: Path) -> None:
    write_stream(file, bad_table())


def write_stream(file: Path, table: pyarrow.Table) -> None:
    with pyarrow.OSFile(str(file), "wb") as sink, ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def twice_table() -> pyarrow.Table:
    return pyarrow.table([pyarrow.array(["one"]), pyarrow.array(["two"])], names=["text", "text"])


def bad_table() -> pyarrow.Table:
    texts = pyarrow.array([b"one", b"two", b"caf\xe9"], pyarrow.binary()).view(pyarrow.string())
    return pyarrow.table({"text": texts})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"one\n\ncaf\xe9\n", "line 3: byte 0xe9 at place 3 is not UTF-8"),
        ("a.jsonl", b'{"text": "one"}\n{"text": "\xff"}\n', "line 2: byte 0xff at place 10 is not UTF-8"),
        ("a.csv", b"text\none\ncaf\xe9\n", "line 3: byte 0xe9 at place 3 is not UTF-8"),
        ("a.parquet", bad_parquet, "row 3: byte 0xe9 at place 3 is not UTF-8"),
        ("a.arrow", bad_arrow, "row 3: byte 0xe9 at place 3 is not UTF-8"),
        ("a.jsonl", b'{"text": "one"}\n{"text"', "line 2: not JSON"),
        ("a.jsonl", b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 1: not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: a row must be a JSON object, got list"),
        ("a.jsonl", b'{"text": "one"}\n{"text": 3}\n', "line 2: no text in column 'text' .*, but 3"),
        ("a.jsonl", b'{"text": "one"}\n{"text": null}\n', "line 2: no text in column 'text' .*, but None"),
        ("a.jsonl", b'{"text": [{"role": "user"}]}\n', "line 1: .*text.chat_template renders messages"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "line 1: half of a surrogate pair"),
        ("a.csv", b'text,n\n"one,1\n', "line 2: not CSV"),
        ("a.csv", b"text,n\none,1\ntwo, three,2\n", "line 3: 3 cells, but the header has 2 columns"),
        ("a.csv", b"text,n,text\none,1,two\n", "line 1: two columns are named 'text'"),
        ("a.parquet", lambda file: parquet.write_table(twice_table(), file), "two columns are named 'text'"),
        ("a.arrow", lambda file: write_stream(file, twice_table()), "two columns are named 'text'"),
        ("a.parquet", b"nonsense", "is no Parquet file"),
        ("a.arrow", b"nonsense", "is no Arrow file"),
        ("a.jsonl", b'{"text": " "}\n', "is empty"),
        ("a.pdf", b"", r"files may be .jsonl, .txt, .csv, .parquet, .arrow"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_file_and_row(
    tmp_path: Path, name: str, content: bytes | Callable[[Path], None], says: str
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        content(file)
    with pytest.raises(InputError, match=says) as caught:
        read(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_long_csv_fields_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "word " * 100_000 + "\n")
    assert len(read(tmp_path / "a.csv")[0].text) == 500_000


def test_the_first_bad_row_is_found_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"said": "one"}\n')
    with pytest.raises(InputError, match="line 1: no text in column 'text'"):
        read_corpus(TextConfig(source=str(tmp_path / "a.jsonl")), no_tokenizer)


def test_a_folder_is_laid_out_as_on_the_hub(tmp_path: Path) -> None:
    for name in ("a.txt", "more/b.txt", "data/train-00000-of-00001.txt", "test/c.txt", "d_valid.txt", "latest.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "README.md").write_text("no text")
    train = ["a.txt", "data/train-00000-of-00001.txt", "latest.txt", "more/b.txt"]
    assert [text.text for text in read(tmp_path)] == train
    assert [text.text for text in read(tmp_path, split="test")] == ["test/c.txt"]
    assert [text.text for text in read(tmp_path, split="validation")] == ["d_valid.txt"]
    assert [text.text for text in read(tmp_path, name="more")] == ["more/b.txt"]
    with pytest.raises(InputError, match=r"no split 'third' \(key text.split\); it has train, "):
        read(tmp_path, split="third")
    with pytest.raises(InputError, match=r"no folder .*nowhere \(key text.name\)"):
        read(tmp_path, name="nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no text that can be read"):
        read(tmp_path / "empty")


@pytest.fixture
def as_on_the_hub(tmp_path: Path) -> Path:
    """A data set of several files and splits."""
    for number in range(4):
        table = pyarrow.table({"text": [f"text {number}.{i}" for i in range(5)]})
        parquet.write_table(table, tmp_path / f"train-{number:05d}-of-00004.parquet")
    parquet.write_table(pyarrow.table({"text": ["other"]}), tmp_path / "test-00000-of-00001.parquet")
    return tmp_path


def test_a_hub_data_set_is_streamed(as_on_the_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local folder stands for it, read by the same calls."""
    monkeypatch.setattr(module, "_is_path", lambda source: False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    expected = [f"text {number}.{i}" for number in range(4) for i in range(5)]
    assert [text.text for text in read(as_on_the_hub)] == expected
    one, again, other = ([text.text for text in read(as_on_the_hub, shuffle_buffer=3, seed=seed)] for seed in (1, 1, 2))
    assert one == again != other
    assert sorted(one) == sorted(other) == expected
    assert [text.text for text in read(as_on_the_hub, split="test")] == ["other"]
    with pytest.raises(InputError, match=r"row 1: no text in column 'said' \(key text.column\); its columns are text"):
        read(as_on_the_hub, column="said")
    for wrong in ({"split": "dev"}, {"name": "third"}):
        with pytest.raises(InputError, match="cannot read the data set"):
            read(as_on_the_hub, **wrong)
    key = text_key(TextConfig(source=str(as_on_the_hub)))
    assert key["content"].endswith(f"@{load_dataset_builder(str(as_on_the_hub)).hash}")


def test_a_stream_that_breaks_names_its_row() -> None:
    def rows(error: Exception) -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise error

    with pytest.raises(WorldError, match=r"it broke off after row 1: no route"):
        list(stream_rows(rows(ConnectionError("no route")), "it"))
    with pytest.raises(InputError, match=r"it, after row 1: cannot be decoded"):
        list(stream_rows(rows(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")), "it"))


def test_without_the_hub_and_the_cache_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(InputError, match=r"'nobody/nothing' \(key text.source\): HF_HUB_OFFLINE=1 and it is not in"):
        text_key(TextConfig(source="nobody/nothing"))


def test_shuffling_follows_from_the_seed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"{name}{i}" for i in range(20)))
    orders = {seed: [text.text for text in read(tmp_path, shuffle_buffer=7, seed=seed)] for seed in range(4)}
    plain = [text.text for text in read(tmp_path)]
    assert all(sorted(order) == sorted(plain) and order != plain for order in orders.values())
    assert len(set(map(tuple, orders.values()))) == 4
    assert orders[2] == [text.text for text in read(tmp_path, shuffle_buffer=7, seed=2)]


def test_the_key_follows_from_content_and_settings_alone(tmp_path: Path) -> None:
    def key(folder: str, **settings: object) -> dict[str, object]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.txt").write_text("one")
        (tmp_path / folder / "t.jinja").write_text("{{ messages }}")
        source = {"source": str(tmp_path / folder / "a.txt"), **settings}
        if "chat_template" in source:
            source["chat_template"] = str(tmp_path / folder / "t.jinja")
        return text_key(TextConfig.model_validate(source))

    assert key("here") == key("there")
    assert key("here", chat_template="") == key("there", chat_template="")
    changed = [{"seed": 1}, {"shuffle_buffer": 0}, {"distinct": False}, {"column": "x"}, {"chat_template": ""}]
    assert all(key("here", **settings) != key("here") for settings in changed)
    assert str(tmp_path) not in json.dumps(key("here", chat_template=""))


def test_the_microworld_is_neither_shuffled_nor_thinned() -> None:
    corpus = read_corpus(TextConfig(max_tokens=2000), no_tokenizer)
    assert (corpus.distinct, corpus.buffer) == (False, 0)


def test_templates_and_new_formats_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("text: {source: a.arrow, chat_template: b.jinja}")
    text = read_experiment(str(tmp_path / "a.yaml")).text
    assert text.source == str(tmp_path / "a.arrow")
    assert text.chat_template == str(tmp_path / "b.jinja")
    (tmp_path / "a.yaml").write_text("text: {chat_template: default}")
    assert read_experiment(str(tmp_path / "a.yaml")).text.chat_template == "default"
    assert ".arrow" in SUFFIXES
