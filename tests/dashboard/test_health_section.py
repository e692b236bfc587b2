"""The report shows what health.json says: every finding in its words, five figures a site, and what was done."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markupsafe import escape

from sae.activations import health
from sae.activations.advice import advise
from sae.activations.silent import Shape
from sae.activations.sums import SiteSums
from sae.core.artifact import Artifact
from sae.core.random import generator
from sae.dashboard.page import report
from tests.dashboard.conftest import D_SAE, HOSTILE, SITE
from tests.dashboard.test_page import Page

N, D, WINDOW = 4096, 16, 64
DONE = "scale auto: activations times 0.5, centred at the geometric median"
Run = dict[str, Artifact]


@pytest.fixture
def measured(run: Run, tmp_path: Path) -> Run:
    """The run with the health of two sites: one with a mean, sinks, a dimension and a token that stand out."""
    plain = torch.randn(N, D, generator=generator(0))
    ill, position = plain + 3, np.arange(N, dtype=np.int32) % WINDOW
    ill[::WINDOW, 2] += 1000
    ids = np.arange(N, dtype=np.int32) % 10
    ill[torch.from_numpy(ids == 7), 5] += 40
    sums = {SITE: SiteSums(D, 10, WINDOW), "embed": SiteSums(D, 10, WINDOW)}
    sums[SITE].update(ill, position, ids)
    sums["embed"].update(plain, position, ids)
    health.write(tmp_path, sums, lambda token: f"{HOSTILE}{token}")
    train = run["train"]
    inputs = train.manifest["inputs"]
    manifest = {
        **train.manifest,
        "inputs": {**inputs, "section": {**inputs["section"], "site": SITE}},
        "metrics": {**train.manifest["metrics"], "scaling_words": DONE},
    }
    return {**run, "harvest": Artifact(tmp_path, run["harvest"].manifest), "train": Artifact(train.path, manifest)}


def test_every_finding_and_figure_stands_there(measured: Run, settings: dict[str, Any]) -> None:
    html = report("Test", 1, (measured,), settings).html
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert "<script" not in html
    found = health.read(measured["harvest"].path)
    said = [advice for site, each in found.sites.items() for advice in advise(site, each, Shape(D_SAE, 16))]
    assert {"trouble", "note", "fine"} == {advice.level for advice in said}
    for advice in said:
        assert escape(advice.words) in html
    for title in ("Predicted silent latents", "Norms by position", "Sinks", "Spectrum", "Outlier dimensions"):
        assert html.count(f"<strong>{title}</strong>") == 1, "of the trained site alone"
    assert DONE in html


def test_a_harvest_without_health_is_said_to_have_none(run: Run, settings: dict[str, Any]) -> None:
    assert "keeps no health" in report("Test", 1, (run,), settings).html


def test_the_same_health_gives_the_same_bytes(measured: Run, settings: dict[str, Any]) -> None:
    assert report("Test", 1, (measured,), settings).html == report("Test", 1, (measured,), settings).html
