"""Report stage: everything a run found, in one HTML file that opens offline."""

from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.stage import Inputs, Progress
from sae.core.config import Strict

VERSION = 3


class ReportConfig(Strict):
    """What the report shows."""

    title: str = "Report"
    """Heading of the page."""
    n_cards: int = Field(20, ge=0)
    """Feature cards per dictionary."""


def run(config: ReportConfig, inputs: Inputs, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes report.html and says how many cards and bytes it has."""
    from sae.dashboard.page import report

    made = report(config.title, config.n_cards, inputs.members(), inputs.settings)
    (folder / "report.html").write_text(made.html, encoding="utf-8")
    progress.update(1, 1, "page")
    return {"n_cards": made.n_cards, "bytes": len(made.html.encode())}
