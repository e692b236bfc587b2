"""`sae health ARTIFACT`: what the rows of a harvest look like, and what follows for training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sae.core.artifact import open_artifact
from sae.core.errors import InputError

if TYPE_CHECKING:
    from sae.activations.advice import Advice
    from sae.activations.health import Health

_MARKS = {"fine": "  ", "note": "· ", "trouble": "! "}


def health_of(path: Path) -> "tuple[Health, tuple[Advice, ...]]":
    """The health of the activations in a folder, and the findings about every site.

    Raises:
        InputError: the folder is no activations artifact, or an older one without health.
        WorldError: it is damaged or of a newer format.
    """
    from sae.activations import health
    from sae.activations.advice import advise
    from sae.activations.contents import read_contents

    artifact = open_artifact(path)
    if artifact.kind != "activations":
        raise InputError(f"{path} holds {artifact.kind}; sae health takes a folder of activations")
    read_contents(path)  # which says so where it is of a newer format
    found = health.read(path)
    return found, tuple(advice for site, each in found.sites.items() for advice in advise(site, each))


def record(path: Path, findings: "tuple[Advice, ...]") -> dict[str, Any]:
    """What `--json` prints."""
    said = [advice.model_dump(mode="json") for advice in findings]
    return {"stage": "health", "path": str(path), "reused": False, "findings": said}


def show(found: "Health", findings: "tuple[Advice, ...]", stream: TextIO) -> None:
    """A row of numbers for each site, then its findings."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = ("site", "rows", "γ", "γ ordinary", "median norm", "sinks", "rank / d", "first comp.")
    table = Table(*columns, title=f"Health of the {found.split} split", box=box.SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for site, one in found.sites.items():
        rank, first = one.spectrum.effective_rank, one.spectrum.top_shares.get(1, 0.0)
        table.add_row(
            site,
            f"{one.n_rows:,}",
            f"{one.gamma:.3g}",
            f"{one.gamma_ordinary:.3g}",
            f"{one.norms.p50:.3g}",
            f"{one.sinks.share_of_rows:.2g}",
            f"{rank:.3g} / {one.d}",
            f"{first:.1%}",
        )
    console = Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else 120)
    console.print(table)
    for advice in findings:
        where = f"{advice.site}, " if len(found.sites) > 1 else ""
        console.print(f"{_MARKS[advice.level]}{where}{advice.topic}: {advice.words}", soft_wrap=not stream.isatty())
