"""What a harvest will take, from a small one made of its first texts on the same disk.

1. The model is loaded and some text drawn and tokenised, both timed.
2. A pilot of a few windows says how many tokens pass in the time there is; so many are harvested and published for
   good. Between the first and the last batch lies the cost of a token in the steady state; what is left is fixed.
3. Bytes grow by whole chunks of the files that came out (`pipelines.growth`). Memory is the peak of that harvest, and
   what of look-ahead and hashes of texts it had not filled yet.
"""

import math
import time
from pathlib import Path
from typing import NamedTuple

from pipelines import capacity
from pipelines.config import Experiment
from pipelines.growth import Amount, Files, files_of
from pipelines.harvest import HarvestConfig
from pipelines.plan_text import Drawn, draw, most_tokens, spread
from pipelines.resources import Resources
from sae.core.artifact import Artifact, Store
from sae.core.config import Strict

SECONDS_DRAWING = 1.0
SECONDS_HARVESTING = 3.0
_MOST_REPEATS = 3
_PILOT_WINDOWS = 16
_LEAST_DOCUMENTS = 40
_BYTES_PER_WAITING_TOKEN = 8
_BYTES_PER_SEEN_TEXT = 48


class HarvestPlan(Strict):
    """A harvest that has not been made."""

    n_tokens: int
    """Tokens that the model will read."""
    n_rows: int
    bytes_on_disk: int
    largest_file: int
    """Bytes."""
    peak_bytes: int
    """Of the whole process."""
    seconds: float
    tokens_per_second: float
    """In the steady state."""


class SampledHarvest(NamedTuple):
    """A plan and the small harvest that it was made from."""

    plan: HarvestPlan
    sample: Artifact


class _Measured(NamedTuple):
    artifact: Artifact
    amount: Amount
    seconds_per_token: float
    seconds_fixed: float
    """Beside tokens, without publishing."""
    seconds_publishing: float


def plan_harvest(experiment: Experiment, config: HarvestConfig, resources: Resources, store: Store) -> SampledHarvest:
    """Measures for some seconds, writing into `store`, a temporary one on the same disk."""
    from sae.lm.packing import is_encoder
    from sae.lm.tokens import prefix_of

    capacity.forget_peak()
    start = time.perf_counter()
    loaded, corpus = resources.model(), resources.texts()
    seconds_loading = time.perf_counter() - start
    prefix = prefix_of(loaded.tokenizer, config.bos, is_encoder(loaded)).document
    drawn = draw(loaded.tokenizer, corpus, prefix, experiment.text.max_tokens, SECONDS_DRAWING)
    measured = _measure(experiment, config, resources, drawn, store)
    whole = _whole(experiment, drawn, measured.amount)
    files = files_of(measured.artifact.path, measured.amount, whole, config.fractions, config.shard_rows)
    reading = (drawn.seconds_drawing + drawn.seconds_tokenising) / max(1, drawn.n_tokens)
    seconds = (
        seconds_loading
        + drawn.seconds_to_first
        + whole.n_tokens * (reading + measured.seconds_per_token)
        + measured.seconds_fixed
        + measured.seconds_publishing * files.bytes_on_disk / measured.artifact.manifest["bytes"]
    )
    plan = _plan(whole, files, seconds, 1 / (reading + measured.seconds_per_token), measured.amount, corpus.distinct)
    return SampledHarvest(plan, measured.artifact)


def _plan(whole: Amount, files: Files, seconds: float, rate: float, sample: Amount, distinct: bool) -> HarvestPlan:
    from sae.lm.packing import LOOK_AHEAD_TOKENS

    waiting = max(0, min(whole.n_tokens, 3 * LOOK_AHEAD_TOKENS) - sample.n_tokens) * _BYTES_PER_WAITING_TOKEN
    seen = whole.n_documents * _BYTES_PER_SEEN_TEXT if distinct else 0
    return HarvestPlan(
        n_tokens=whole.n_tokens,
        n_rows=whole.n_rows,
        bytes_on_disk=files.bytes_on_disk,
        largest_file=files.largest,
        peak_bytes=capacity.peak_bytes() + waiting + seen,
        seconds=seconds,
        tokens_per_second=rate,
    )


def _whole(experiment: Experiment, drawn: Drawn, sample: Amount) -> Amount:
    n_tokens = most_tokens(experiment.text, drawn)
    return Amount(
        n_tokens=n_tokens,
        n_documents=math.ceil(n_tokens * drawn.n_documents / max(1, drawn.n_tokens)),
        n_rows=round(n_tokens * sample.n_rows / sample.n_tokens),
    )


def _measure(
    experiment: Experiment, config: HarvestConfig, resources: Resources, drawn: Drawn, store: Store
) -> _Measured:
    """A pilot, then as many tokens as pass in the time there is: again where the one before was far too slow.

    The first batches of a process are the slowest: memory is fetched and kernels are chosen.
    """
    measured = _harvest(experiment, config, resources, drawn, _PILOT_WINDOWS * config.window, store)
    for _ in range(_MOST_REPEATS):
        n_tokens = round(SECONDS_HARVESTING / max(measured.seconds_per_token, 1e-9))
        if 2 * measured.amount.n_tokens >= n_tokens:
            break
        measured = _harvest(experiment, config, resources, drawn, n_tokens, store)
    return measured


def _harvest(
    experiment: Experiment, config: HarvestConfig, resources: Resources, drawn: Drawn, n_tokens: int, store: Store
) -> _Measured:
    from sae.activations.harvest import Harvest
    from sae.lm.corpus import Corpus

    characters = sum(len(text.text) for text in drawn.texts) / max(1, drawn.n_tokens)
    longest = max(config.window, round(n_tokens * characters / _LEAST_DOCUMENTS))
    texts = Corpus(spread(drawn.texts, longest, config.fractions), distinct=False)
    with store.building("activations", f"sample-{n_tokens}") as building:
        start = time.perf_counter()
        harvest = Harvest(resources.model(), experiment.sites, config, building.path)
        moments = [(time.perf_counter(), counts.n_forward) for counts in harvest.run(texts, n_tokens)]
        passed = time.perf_counter() - start
        start = time.perf_counter()
        artifact = building.publish({"kind": "activations", "hash": f"sample-{n_tokens}", "metrics": {}})
    counts = harvest.counts
    per_token = _slope(moments, passed)
    tokenising = counts.texts.n_tokens * drawn.seconds_tokenising / max(1, drawn.n_tokens)
    return _Measured(
        artifact,
        Amount(
            n_tokens=counts.texts.n_tokens,
            n_documents=counts.texts.n_documents,
            n_rows=sum(counts.n_rows.values()),
        ),
        per_token,
        max(0.0, passed - tokenising - per_token * counts.n_forward),
        time.perf_counter() - start,
    )


def _slope(moments: list[tuple[float, int]], passed: float) -> float:
    """Seconds a token between the first and the last batch; of the whole, where there is only one."""
    (first, before), (last, after) = moments[0], moments[-1]
    return (last - first) / (after - before) if after > before else passed / after


def weights_bytes(model: str) -> int:
    """Of the weight files in a model's folder: the least memory that it takes; 0 where it is no folder."""
    folder = Path(model)
    files = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")] if folder.is_absolute() else []
    return sum(file.stat().st_size for file in files)
