"""What was run: one sentence and two small tables, from the settings and the manifests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sae.core.splits import SPLITS
from sae.dashboard.member import Member
from sae.dashboard.numbers import count, short


class Fact(NamedTuple):
    name: str
    value: str
    note: str = ""
    """The same in plain words, or what it means."""


class StageRow(NamedTuple):
    stage: str
    member: str
    hash: str


class Facts(NamedTuple):
    """What the section "What was run" shows."""

    sentence: str
    facts: tuple[Fact, ...]
    stages: tuple[StageRow, ...]


def facts_of(members: Sequence[Member], settings: Mapping[str, Any]) -> Facts:
    """Gathers the facts of a run."""
    return Facts(_sentence(members, settings), tuple(_facts(members, settings)), tuple(_stages(members)))


def _sentence(members: Sequence[Member], settings: Mapping[str, Any]) -> str:
    train, harvest = _section(members[0], "train", settings), _metrics(members[0], "harvest")
    n_read = harvest.get("n_tokens", _text(settings).get("max_tokens"))
    read = f" while it read {count(n_read)} tokens of text" if n_read else " while it read text"
    where = f"the activations of the model “{_name(settings.get('model'))}” at {_site(members[0], settings)}{read}"
    if len(members) > 1:
        return f"{len(members)} sparse dictionaries, which differ in {_varied(members)}, were trained on {where}."
    d_sae, l0, tokens = train.get("d_sae"), train.get("l0"), train.get("tokens")
    shape = f" of {count(d_sae)} latents, about {short(l0)} of them active at a time," if d_sae and l0 else ""
    seen = f"; training saw {count(tokens)} activation vectors" if tokens else ""
    return f"A sparse dictionary{shape} was trained on {where}{seen}."


def _varied(members: Sequence[Member]) -> str:
    return " and ".join(part.split(" = ")[0] for part in members[0].name.split(", "))


def _facts(members: Sequence[Member], settings: Mapping[str, Any]) -> list[Fact]:
    first, text = members[0], _text(settings)
    harvest, train = _metrics(first, "harvest"), _section(first, "train", settings)
    keys = first.artifacts["harvest"].manifest.get("inputs", {}).get("keys", {}) if "harvest" in first.artifacts else {}
    site = _site(first, settings)
    width = harvest.get("sites", {}).get(site, {}).get("d")
    rows = harvest.get("n_rows", {})
    facts = [
        Fact(
            "Model", _name(settings.get("model")), f"fingerprint {str(keys['model'])[:16]}" if "model" in keys else ""
        ),
        Fact("Site", site, f"{count(width)} numbers per token" if width else "the place in the model that was read"),
        Fact("Text", _name(text.get("source")), _text_note(harvest)),
        Fact("Activations", _splits(rows), "tokens per split; a document lies wholly in one split") if rows else None,
        _dictionary(members, train),
        Fact("Labelled texts", _name(settings["concepts"]), "texts in which a variable's value is known")
        if _asked(first)
        else None,
        Fact("Seed", str(settings.get("seed", 0)), "of everything random"),
    ]
    return [fact for fact in facts if fact is not None]


def _stages(members: Sequence[Member]) -> list[StageRow]:
    rows, seen = [], set()
    for member in members:
        for stage, artifact in member.artifacts.items():
            if artifact.path not in seen:
                seen.add(artifact.path)
                rows.append(StageRow(stage, "" if stage == "harvest" else member.name, artifact.hash))
    return rows


def _metrics(member: Member, stage: str) -> dict[str, Any]:
    artifact = member.artifacts.get(stage)
    return artifact.manifest.get("metrics", {}) if artifact is not None else {}


def _section(member: Member, stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's settings as they went into its hash, else as the experiment has them."""
    written = settings.get(stage)
    own = member.artifacts[stage].manifest.get("inputs", {}).get("section", {}) if stage in member.artifacts else {}
    return {**(written if isinstance(written, dict) else {}), **own}


def _text(settings: Mapping[str, Any]) -> dict[str, Any]:
    text = settings.get("text")
    return text if isinstance(text, dict) else {}


def _site(member: Member, settings: Mapping[str, Any]) -> str:
    chosen = _section(member, "train", settings).get("site") or settings.get("site", "")
    return chosen if isinstance(chosen, str) else ", ".join(chosen)


def _name(value: object) -> str:
    """A hub name as it is, a local path by its last part, so that equal runs in two places read alike."""
    text = str(value)
    return Path(text).name if Path(text).is_absolute() else text


def _text_note(harvest: Mapping[str, Any]) -> str:
    if "n_tokens" not in harvest:
        return ""
    left_out = harvest.get("n_special_excluded", 0)
    special = f"; {count(left_out)} special tokens are not in the activations" if left_out else ""
    return f"{count(harvest['n_tokens'])} tokens in {count(harvest.get('n_documents', 0))} documents{special}"


def _splits(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count(rows[split])}" for split in SPLITS if split in rows)


def _dictionary(members: Sequence[Member], train: Mapping[str, Any]) -> Fact:
    if len(members) == 1:
        return Fact("Dictionary", _shape(train), _training_note(train))
    return Fact("Dictionaries", "; ".join(member.name for member in members), _training_note(train))


def _shape(train: Mapping[str, Any]) -> str:
    parts = [str(train.get("preset", ""))]
    parts += [f"{count(train['d_sae'])} latents"] if "d_sae" in train else []
    parts += [f"L0 {short(train['l0'])}"] if "l0" in train else []
    return ", ".join(filter(None, parts))


def _training_note(train: Mapping[str, Any]) -> str:
    tokens, batch = train.get("tokens"), train.get("batch")
    return f"trained on {count(tokens)} tokens in batches of {count(batch)}" if tokens and batch else ""


def _asked(member: Member) -> bool:
    return bool(member.findings)
