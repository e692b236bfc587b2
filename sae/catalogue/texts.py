"""`catalogue.sqlite`: the texts of every latent, and their search.

`latents` (promoted and suppressed tokens as JSON), `examples` (tokens and activations as JSON), and `search`, a
full-text index over the examples' text and the promoted tokens, one row per latent; a plain table where SQLite was
built without FTS5. The same input gives the same bytes.
"""

import json
import sqlite3
from pathlib import Path

from sae.catalogue.records import Example, TokenEffect
from sae.core.errors import InputError

FILE = "catalogue.sqlite"

_SCHEMA = """
CREATE TABLE latents (latent INTEGER PRIMARY KEY, promoted TEXT NOT NULL, suppressed TEXT NOT NULL);
CREATE TABLE examples (
    latent INTEGER NOT NULL, rank INTEGER NOT NULL, document INTEGER NOT NULL, position INTEGER NOT NULL,
    activation REAL NOT NULL, tokens TEXT NOT NULL, activations TEXT NOT NULL, peak INTEGER NOT NULL,
    PRIMARY KEY (latent, rank)
) WITHOUT ROWID;
"""


class TextWriter:
    """Writes catalogue.sqlite, a latent at a time."""

    def __init__(self, folder: Path) -> None:
        file = folder / FILE
        file.unlink(missing_ok=True)
        self._database = sqlite3.connect(file, isolation_level=None)
        # The artifact is published whole or not at all, so that SQLite's own journal would only cost time.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(_SCHEMA)
        _create_search(self._database)
        self._database.execute("BEGIN")

    def write(
        self, latent: int, examples: list[Example], promoted: list[TokenEffect], suppressed: list[TokenEffect]
    ) -> None:
        """Adds one latent; each exactly once."""
        execute = self._database.execute
        execute("INSERT INTO latents VALUES (?, ?, ?)", (latent, _json(promoted), _json(suppressed)))
        for rank, example in enumerate(examples):
            tokens = json.dumps(example.tokens, ensure_ascii=False)
            values = json.dumps(example.values)
            row = (latent, rank, example.document, example.position, example.activation, tokens, values, example.peak)
            execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        text = "\n".join("".join(example.tokens) for example in examples)
        words = " ".join(effect.token for effect in promoted)
        execute("INSERT INTO search (rowid, examples, promoted) VALUES (?, ?, ?)", (latent, text, words))

    def close(self) -> None:
        self._database.execute("COMMIT")
        self._database.close()

    def __enter__(self) -> "TextWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _json(effects: list[TokenEffect]) -> str:
    return json.dumps([effect.model_dump() for effect in effects], ensure_ascii=False)


def _create_search(database: sqlite3.Connection) -> None:
    try:
        database.execute("CREATE VIRTUAL TABLE search USING fts5(examples, promoted)")
    except sqlite3.OperationalError:  # built without FTS5
        database.execute("CREATE TABLE search (examples TEXT, promoted TEXT)")


class Texts:
    """Reads catalogue.sqlite."""

    def __init__(self, folder: Path) -> None:
        file = folder / FILE
        if not file.is_file():
            raise InputError(f"{folder} holds no catalogue: it has no {FILE}")
        # `immutable`: an artifact never changes, and its folder may be read-only. Threads only ever read.
        uri = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        schema = self._database.execute("SELECT sql FROM sqlite_master WHERE name = 'search'").fetchone()
        self._full_text = "fts5" in schema[0]

    def examples(self, latent: int) -> tuple[Example, ...]:
        """Strongest first."""
        columns = "document, position, activation, tokens, activations, peak"
        rows = self._database.execute(f"SELECT {columns} FROM examples WHERE latent = ? ORDER BY rank", (latent,))
        return tuple(
            Example(
                document=document,
                position=position,
                activation=activation,
                tokens=json.loads(tokens),
                values=json.loads(values),
                peak=peak,
            )
            for document, position, activation, tokens, values, peak in rows
        )

    def effects(self, latent: int) -> tuple[tuple[TokenEffect, ...], tuple[TokenEffect, ...]]:
        """Promoted and suppressed tokens."""
        row = self._database.execute("SELECT promoted, suppressed FROM latents WHERE latent = ?", (latent,)).fetchone()
        promoted, suppressed = (tuple(TokenEffect(**effect) for effect in json.loads(column)) for column in row)
        return promoted, suppressed

    def search(self, text: str, limit: int) -> list[int]:
        """Latents whose examples or promoted tokens hold all words of `text`, best first."""
        words = text.split()
        if not words:
            return []
        if self._full_text:
            # Quoted, so that no word is read as an operator.
            query = " ".join('"' + word.replace('"', '""') + '"' for word in words)
            sql, values = "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rank, rowid LIMIT ?", [query]
        else:
            clause = " AND ".join("instr(lower(examples || ' ' || promoted), lower(?))" for _ in words)
            sql, values = f"SELECT rowid FROM search WHERE {clause} ORDER BY rowid LIMIT ?", words
        return [latent for (latent,) in self._database.execute(sql, [*values, limit])]

    def close(self) -> None:
        self._database.close()
