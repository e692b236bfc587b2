"""Stage *harvest*: text through the model to activation shards, one split each.

A harvest that was killed goes on from its whole shards. `run` makes one in one process; `run_part` makes one part,
and `join` makes one of all parts.
"""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.stage import Inputs, Progress
from sae.activations.config import HarvestConfig
from sae.core.artifact import taken_back, to_publish
from sae.core.errors import WorldError

if TYPE_CHECKING:
    from sae.activations.harvest import Harvest
    from sae.activations.merge import Merged, PartContents
    from sae.activations.parts import Part
    from sae.core.streams import Moments
    from sae.lm.corpus import Corpus

VERSION = 7

ROWS = {
    "isolated": "isolated from one another within a window",
    "single": "one a row",
    "shared": "which see those before them in their window",
}
_BEGUN = "begun.json"
_ORDER = "order.json"

__all__ = ["VERSION", "HarvestConfig", "join", "run", "run_part"]


def run(config: HarvestConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Harvests `inputs.sites` into `folder`, going on with what is whole there.

    Raises:
        InputError: an empty corpus, a split without rows, an unknown site.
        WorldError: an activation that is not finite.
    """
    from sae.activations.merge import complete
    from sae.activations.parts import WHOLE, Part, n_parts_in

    before = taken_back(folder).get("metrics", {})
    n_parts = before.get("n_parts") or n_parts_in(file.name for file in folder.iterdir())
    if n_parts == 1:
        harvest, corpus = _harvest(config, inputs, folder, WHOLE, progress)
        merged, parts, harvests = harvest.merged, [harvest.contents], [harvest]
    else:  # what is missing of a harvest that was made in parts
        made = [_harvest(config, inputs, folder, Part(i, n_parts), progress) for i in range(n_parts)]
        harvests, corpus = [harvest for harvest, _ in made], made[0][1]
        parts = [harvest.contents for harvest in harvests]
        merged = complete(folder, parts, inputs.model().tokenizer.decode)
    metrics = _metrics(merged, parts, _order(corpus), inputs, folder, progress)
    if known_makers := before.get("made_with"):
        metrics["made_with"] = [_makers(*each) for each in zip(harvests, known_makers, strict=True)]
    for site, known in before.get("sites", {}).items():  # what int8 lost cannot be measured from what it kept
        if "encoding_fvu" in known:
            metrics["sites"][site].setdefault("encoding_fvu", known["encoding_fvu"])
    if config.dtype == "int8" and not all("encoding_fvu" in known for known in metrics["sites"].values()):
        progress.say("the FVU that int8 cost stood in a manifest that is lost; it is not known any more")
    return metrics


def run_part(config: HarvestConfig, inputs: Inputs, folder: Path, part: "Part", progress: Progress) -> dict[str, Any]:
    """Harvests one part into `folder`, where `part.json` says at the end that it is whole."""
    harvest, corpus = _harvest(config, inputs, folder, part, progress)
    (folder / _ORDER).write_text(json.dumps(_order(corpus)), encoding="utf-8")
    return {"part": f"{part.index}/{part.n}", "n_rows": dict(harvest.counts.n_rows), "n_found": harvest.n_found}


def join(folders: Sequence[Path], inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Joins whole parts into `folder`; their files are linked where the disk allows it, else copied.

    Raises:
        WorldError: a part is damaged, or the parts read different texts.
    """
    from sae.activations import stream
    from sae.activations.finished import SUMS
    from sae.activations.merge import complete, read_part_contents
    from sae.core.artifact import digest_of

    parts = [contents for contents in map(read_part_contents, folders) if contents is not None]
    assert len(parts) == len(folders), "the caller checks that all parts are whole"
    if len({digest_of(part / stream.FILE) for part in folders}) > 1:
        raise WorldError(f"the parts in {folders[0].parent} read different texts; delete it and harvest again")
    _clear(folder)
    for number, part in enumerate(folders):
        for file in part.iterdir():
            if file.name.endswith((".h5", SUMS)) and (number == 0 or file.name != stream.FILE):
                _link(file, folder / file.name)
    merged = complete(folder, parts, inputs.model().tokenizer.decode)
    order = json.loads((folders[0] / _ORDER).read_text(encoding="utf-8"))
    return _metrics(merged, parts, order, inputs, folder, progress)


def _harvest(
    config: HarvestConfig, inputs: Inputs, folder: Path, part: "Part", progress: Progress
) -> "tuple[Harvest, Corpus]":
    from sae.activations.harvest import Harvest, made_with

    corpus = inputs.texts()
    harvest = Harvest(inputs.model(), inputs.sites, config, folder, part)
    _announce(folder / _BEGUN, made_with(config), progress)
    for number, counts in enumerate(harvest.run(corpus, inputs.max_tokens)):
        if number == 0 and harvest.n_found:
            progress.say(f"going on: {harvest.n_found:,} rows are in shards that were finished before")
        texts = counts.texts
        shown = {"documents": texts.n_documents, "duplicates": texts.n_duplicates, "waste": counts.waste_fraction}
        total = max(counts.n_forward, inputs.max_tokens // part.n)
        progress.update(counts.n_forward, total, "tokens", **shown)
    (folder / _BEGUN).unlink()
    return harvest, corpus


def _makers(harvest: "Harvest", before: dict[str, Any]) -> dict[str, Any]:
    """With what the rows of a part were made that was taken back: all of them before, or some of them now."""
    now = harvest.contents.made_with
    if now == before or harvest.n_found == sum(harvest.counts.n_rows.values()):
        return before
    return {**now, "before_repair": before}


def _announce(file: Path, made_with: dict[str, Any], progress: Progress) -> None:
    """Notes what changes the last bits of results; says what differs from the run that began."""
    try:
        begun = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        file.write_text(json.dumps(made_with), encoding="utf-8")
        return
    differ = [f"{name} {begun.get(name)}, now {value}" for name, value in made_with.items() if begun.get(name) != value]
    if differ:
        progress.say(f"this harvest was begun with {', '.join(differ)}: rows may differ in their last bits")


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _metrics(
    merged: "Merged",
    parts: "Sequence[PartContents]",
    order: dict[str, Any],
    inputs: Inputs,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    counts, texts = merged.counts, merged.counts.texts
    progress.say(_summary(merged, parts[0].packing.rows))
    if parts[0].exhausted:
        progress.say(
            f"warning: the text ended after {texts.n_tokens:,} tokens of the {inputs.max_tokens:,} asked for "
            f"(text.max_tokens); going on with what there is"
        )
    n_bytes = sum(file.stat().st_size for file in to_publish(folder).values())
    return {
        **{name: getattr(texts, name) for name in texts.__dataclass_fields__},
        "n_documents_in": dict(counts.n_documents_in),
        "n_pieces": counts.n_pieces,
        "n_special": counts.n_special + counts.n_prefix,
        "n_rows": dict(counts.n_rows),
        "n_special_excluded": counts.n_special_excluded,
        "n_first_excluded": counts.n_first_excluded,
        "n_high_norm_excluded": counts.n_high_norm_excluded,
        "n_not_finite": counts.n_not_finite,
        "n_tokens_missing": inputs.max_tokens - texts.n_tokens,
        "waste_fraction": counts.waste_fraction,
        "rows": parts[0].packing.rows,
        "order": order,
        "bytes_on_disk": n_bytes,
        "bytes_per_raw_byte": n_bytes / _raw_bytes(merged, parts[0], folder),
        "n_parts": len(parts),
        "made_with": [contents.made_with for contents in parts],
        "sites": {site: _site_metrics(m, merged, parts[0], site) for site, m in merged.moments.items()},
    }


def _summary(merged: "Merged", rows: str) -> str:
    counts, texts = merged.counts, merged.counts.texts
    words = (
        f"{texts.n_texts:,} texts, {texts.n_empty:,} empty, {texts.n_duplicates:,} duplicates dropped; "
        f"{texts.n_documents:,} documents in {counts.n_pieces:,} pieces, {ROWS[rows]}; "
        f"{texts.n_tokens:,} tokens, {counts.n_special:,} special; {counts.waste_fraction:.2%} of the windows wasted"
    )
    if counts.n_high_norm_excluded:
        words += f"; {counts.n_high_norm_excluded:,} rows of high norm left out"
    if counts.n_not_finite:
        words += f"; {counts.n_not_finite:,} rows that are not finite dropped"
    for site, share in merged.encoding_fvu.items():
        words += f"; int8 lost {share:.2g} of the variance of {site}"
    return words


def _raw_bytes(merged: "Merged", contents: "PartContents", folder: Path) -> int:
    """Bytes of all rows and of the token stream as they are, without compression and without the file format."""
    from sae.activations import stream
    from sae.activations.encoding import STORED, width

    of_row = sum(width(site.d, contents.dtype) for site in contents.sites) * STORED[contents.dtype].itemsize + 8
    return sum(merged.counts.n_rows.values()) * of_row + (folder / stream.FILE).stat().st_size


def _order(corpus: "Corpus") -> dict[str, Any]:
    """How the texts were shuffled; `uniform` where every order was equally likely."""
    if corpus.buffer == 0:
        return {"shuffled": False}
    return {"shuffled": True, "buffer_texts": corpus.buffer, "seed": corpus.seed, "uniform": corpus.whole_in_buffer}


def _site_metrics(m: "Moments", merged: "Merged", contents: "PartContents", site: str) -> dict[str, float]:
    """Of the train split, in the model's own units."""
    mean_square = float((m.variance + m.mean.square()).sum())
    metrics = {
        "d": len(m.sum),
        "root_mean_square_norm": math.sqrt(mean_square),
        "norm_of_mean": float(m.mean.norm()),
        "total_variance": m.total_variance,
    }
    if site in merged.encoding_fvu:
        metrics["encoding_fvu"] = merged.encoding_fvu[site]
    if site in contents.thresholds:
        metrics["largest_norm_kept"] = contents.thresholds[site]
    return metrics
