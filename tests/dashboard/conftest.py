"""A synthetic run, written with the stages' own records and writers, that reports are made of."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae.catalogue.effects import effects
from sae.catalogue.neighbours import neighbours
from sae.catalogue.numeric import write_numbers
from sae.catalogue.records import Example, TokenEffect
from sae.catalogue.texts import TextWriter
from sae.catalogue.usage import Usage, bin_edges
from sae.core.artifact import Artifact
from sae.core.records import Control, Finding, Interval, Subject, write_findings
from sae.evaluation.geometry import Geometry, Spread
from sae.evaluation.scorecard import Scorecard, write, write_sums
from sae.evaluation.scores import Score
from sae.evaluation.sums import TextSums

D, D_SAE, N_TOKENS = 16, 256, 20_000
SITE = "blocks.2.resid_post"
BEST = {"number": 17, "sentiment": 40}
HOSTILE = "<script>alert('x')</script> & \"quotes\""
Members = tuple[Mapping[str, Artifact], ...]


def artifact(path: Path, kind: str, hash: str, metrics: dict[str, Any], section: dict[str, Any]) -> Artifact:
    manifest = {
        "kind": kind,
        "hash": hash,
        "created": "2026-01-02T03:04:05Z",
        "wall_seconds": 12.5,
        "bytes": 1_234_567,
        "metrics": metrics,
        "inputs": {"section": section, "keys": {"model": "f" * 64}},
        "versions": {"sae": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "code_revision": "0123456789abcdef0123",
    }
    return Artifact(path, manifest)


def harvest(folder: Path) -> Artifact:
    metrics = {
        "n_tokens": 1_000_000,
        "n_documents": 48_213,
        "n_rows": {"train": 870_000, "validation": 41_000, "test": 40_000},
        "n_special_excluded": 49_000,
        "sites": {SITE: {"d": D}},
    }
    return artifact(folder, "activations", "a" * 16, metrics, {"window": 128})


def train(folder: Path, l0: int) -> Artifact:
    steps = range(20, 981, 20)
    rows = [
        {
            "step": s,
            "n_tokens": 4096 * s,
            "loss": 0.9 * math.exp(-s / 150) + 0.12 / l0 * 16,
            "fvu": 0.85 * math.exp(-s / 150) + 0.11 / l0 * 16,
            "l0": float(l0),
            "dead_window_fraction": 0.12 * (1 - math.exp(-s / 400)),
            "learning_rate": 2e-3 * min(1, s / 50, (980 - s) / 200),
        }
        for s in steps
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    section = {"preset": "topk", "d_sae": D_SAE, "l0": l0, "tokens": 4_000_000, "batch": 4096, "sweep": {}}
    return artifact(folder, "dictionaries", f"d{l0:015d}", rows[-1], section)


WIDE = Spread(p05=0.1, p50=0.2, p95=0.9)
SHAPE = Geometry(
    n_firing=D_SAE - 9,
    decoder_norm=WIDE,
    nearest_cosine=WIDE,
    chance_nearest_cosine=None,
    duplicate_fraction=0.125,
    effective_rank=9.25,
    encoder_decoder_cosine=None,
)
NONE = np.zeros(1)
NO_TEXT = TextSums(NONE, NONE, np.zeros((1, D)), NONE, NONE, NONE)


def around(value: float, width: float) -> Score:
    return Score(value=value, low=value - width, high=value + width)


def evaluate(folder: Path) -> Artifact:
    def one(fvu: float, ce: float, l0: float, **more: Score) -> dict[str, Score]:
        return {
            "fvu": around(fvu, 0.006),
            "l0": Score(value=l0, low=l0, high=l0),
            "ce_nats": around(2 + ce, 0.03),
            "delta_ce_nats": around(ce, ce / 12),
            "ce_loss_recovered": around(1 - ce / 6, 0.002),
            "ce_loss_recovered_mean": around(1 - ce / 3, 0.004),
            "kl_nats": around(ce * 1.2, ce / 10),
            **more,
        }

    card = Scorecard(
        site=SITE,
        split="test",
        n_documents=2412,
        n_tokens=N_TOKENS,
        settings={"n_resamples": 100, "seed": 0, "concepts": ""},
        densities={},
        geometry={"dictionary": SHAPE, "untrained": SHAPE},
        absorption={},
        probing=(),
        model={"ce_nats": around(2.0, 0.03)},
        contenders={
            "dictionary": one(0.124, 0.041, 16, dead_fraction=around(0.031, 0.004)),
            "untrained": one(0.61, 1.7, 16, dead_fraction=around(0.2, 0.01)),
            "pca": one(0.33, 0.61, 16),
            "mean_ablation": one(1.0, 3.0, 0),
            "zero_ablation": one(1.4, 6.0, 0),
        },
        differences={
            "untrained": {"fvu": around(-0.49, 0.01), "delta_ce_nats": around(-1.66, 0.1)},
            "pca": {"fvu": around(-0.2, 0.01), "delta_ce_nats": around(-0.01, 0.1)},
        },
        notes=(),
    )
    resampled = {
        metric: np.random.default_rng(0).normal(score.value or 0, 0.01 * (score.value or 0), 100)
        for metric, score in card.contenders["dictionary"].items()
    }
    write(folder, card)
    write_sums(folder, NO_TEXT, {}, resampled)
    made = artifact(folder, "evaluations", "e" * 16, {}, {})
    return Artifact(folder, {**made.manifest, "parents": {"harvest": "a" * 16, "train": "d" * 16}})


def catalogue(folder: Path) -> Artifact:
    random = np.random.default_rng(0)
    density = 10 ** random.normal(-2.3, 0.6, D_SAE).clip(-5, -0.5)
    density[:9] = 0
    usage = Usage(D_SAE, bin_edges(8.0))
    latents = np.repeat(np.arange(D_SAE), np.round(density * N_TOKENS).astype(int))
    usage.update(N_TOKENS, latents, random.gamma(2, 1.2, len(latents)).astype(np.float32))
    directions = torch.randn(D_SAE, D, generator=torch.Generator().manual_seed(0))
    logits = effects(directions, torch.randn(D, 60, generator=torch.Generator().manual_seed(1)), 10)
    write_numbers(folder, usage, logits, neighbours(directions, 8))
    words = ["The", " keys", " to", " the", " old", " cabinet", " are", " rusty", ".", "\n", f" {HOSTILE}"]
    with TextWriter(folder) as writer:
        for latent in range(D_SAE):
            promoted = [TokenEffect(token=f" word{i}", token_id=i, logits_per_unit=1 - i / 10) for i in range(10)]
            suppressed = [TokenEffect(token=HOSTILE, token_id=i, logits_per_unit=-1 + i / 10) for i in range(10)]
            writer.write(
                latent, [example(i, words) for i in range(8)] if density[latent] > 0 else [], promoted, suppressed
            )
    return artifact(folder, "catalogues", "c" * 16, {}, {})


def example(i: int, words: list[str]) -> Example:
    tokens = tuple(words[(i + j) % len(words)] for j in range(24))
    values = tuple(6.0 if j == 12 else 2.5 if j % 7 == 0 else 0.0 for j in range(24))
    return Example(document=i, position=12, activation=6.0, tokens=tokens, values=values, peak=12)


def finding(kind: str, variable: str, effect: float, control: float, **changes: Any) -> Finding:
    beside = changes.pop("beside", None)
    given = {
        "kind": kind,
        "variable": variable,
        "subject": latent_subject(variable),
        "effect": effect,
        "unit": "balanced accuracy" if kind == "probe" else "log-odds",
        "direction": "1 means that of every held-out text it tells its number; 0.5 is guessing",
        "interval": Interval(low=effect - 0.05, high=effect + 0.05),
        "n_documents": 212,
        "control": beside
        or Control(
            what="the same search in the untrained dictionary",
            effect=control,
            interval=Interval(low=control - 0.04, high=control + 0.04),
        ),
        "p": 0.001,
        "q": 0.002,
        "settings": {"method": "best_latent", "level": "variable"},
    }
    return Finding(**{**given, **changes})


LATENT, MEANS = "best latent", "difference of means"


def pushes(variable: str, strength: float) -> list[Finding]:
    rows = []
    for direction, gain in ((LATENT, strength), (MEANS, 2 * strength)):
        for dose, equal in ((0.25, False), (0.5, False), (1.0, False), (2.0, False), (0.8, True)):
            means = Subject(kind="direction", site=SITE, name="difference of means towards 'plural'")
            changes = {
                "subject": means if direction == MEANS else latent_subject(variable),
                "settings": {
                    "method": "best_latent" if direction == LATENT else "difference_of_means",
                    "level": "variable" if equal else "dose",
                    "target": "plural",
                    "direction": direction,
                    "dose": dose,
                    "at_equal_cost": equal,
                    "kl_nats": 0.1 * dose**2 * gain,
                    "kl_low": 0.08 * dose**2 * gain,
                    "kl_high": 0.12 * dose**2 * gain,
                    "random_kl_nats": 0.05 * dose**2,
                },
                "beside": Control(
                    what="20 random directions of equal length",
                    effect=0.02 * dose,
                    interval=Interval(low=-0.4 * dose, high=0.5 * dose),
                ),
            }
            rows.append(finding("steering", variable, gain * dose, 0, **changes))
    return rows


def latent_subject(variable: str) -> Subject:
    return Subject(kind="latent", site=SITE, dictionary="d" * 16, latents=(BEST[variable],), name="best single latent")


def findings(folder: Path, stage: str, hash: str) -> Artifact:
    match stage:
        case "probe":
            logistic = {
                "subject": Subject(kind="probe", site=SITE, name="logistic probe on the residual stream"),
                "settings": {"method": "logistic", "level": "variable"},
            }
            rows = [
                finding("probe", "number", 0.98, 0.5, **logistic),
                finding("probe", "number", 0.93, 0.6),
                finding("probe", "sentiment", 0.62, 0.61, q=0.3),
            ]
        case "steer":
            rows = pushes("number", 2.5) + pushes("sentiment", 0.3)
        case _:
            settings = {"method": "best_latent", "level": "variable"}
            rows = [
                finding("ablation", "number", 1.9, 0.1, settings=settings, unit="nats of log-odds"),
                finding("patching", "number", 2.5, 0.2, settings={**settings, "share_of_whole": 0.41}),
            ]
    write_findings(folder / "findings.jsonl", rows)
    return artifact(folder, "findings", hash * 16, {}, {})


@pytest.fixture(scope="session")
def settings() -> dict[str, Any]:
    """A resolved experiment as plain values."""
    return {
        "seed": 0,
        "model": "microworld",
        "site": SITE,
        "text": {"source": "microworld", "max_tokens": 1_000_000},
        "concepts": "microworld",
        "train": {"d_sae": D_SAE, "l0": 16},
    }


def artifacts(root: Path) -> dict[str, Artifact]:
    """A whole run of one dictionary, in folders under `root`."""
    makers: dict[str, Callable[[Path], Artifact]] = {
        "harvest": harvest,
        "train": lambda folder: train(folder, 16),
        "evaluate": evaluate,
        "catalogue": catalogue,
        "probe": lambda folder: findings(folder, "probe", "1"),
        "steer": lambda folder: findings(folder, "steer", "2"),
        "validate": lambda folder: findings(folder, "validate", "3"),
    }
    made = {}
    for stage, maker in makers.items():
        (root / stage).mkdir()
        made[stage] = maker(root / stage)
    return made


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The artifacts of one dictionary."""
    return artifacts(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def sparser(run: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A second member of a sweep, trained with another L0."""
    return {**run, "train": train(tmp_path_factory.mktemp("train"), 32)}


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    """`finding(kind, variable, effect, control, **changes)`."""
    return finding
