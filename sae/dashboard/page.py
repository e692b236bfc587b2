"""The report as one HTML text: view models of every section, put into the templates.

The templates escape whatever is put into them, for tokens and labels come from corpora. The page loads nothing: its
style sheet and figures are part of it, and it has no script.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sae.catalogue.catalogue import Catalogue
from sae.core.artifact import Artifact
from sae.core.records import Finding
from sae.dashboard.cards import MIN_ACTIVE, N_SHADES, Card, cards_of
from sae.dashboard.claims import KNOWLEDGE, Claims, claims_of, is_about_best_latent
from sae.dashboard.comparison import comparison_of
from sae.dashboard.curves import curves_of
from sae.dashboard.density import Densities, densities_of
from sae.dashboard.doses import Doses, doses_of
from sae.dashboard.facts import facts_of
from sae.dashboard.health import health_of
from sae.dashboard.labelled import labelled_of
from sae.dashboard.member import FINDING_STAGES, Member, read_members
from sae.dashboard.scorecard import scorecard_of, sweep_rows, swept_metrics
from sae.dashboard.shape import shape_of
from sae.dashboard.stability import seed_groups, stability_table
from sae.probe.knowledge import Question

_TEMPLATES = Path(__file__).parent / "templates"
_QUESTIONS = {
    "probe": ("Probing", "Can the variable be read from the latent?"),
    "steer": ("Steering", "Does pushing along the latent move what the model says?"),
    "validate": ("Ablating and patching", "Does the model itself use the latent?"),
}
_KNOWLEDGE: dict[Question, tuple[str, str]] = {
    "says": ("Says it", "Is the word that follows from the variable likelier than the other labels' words?"),
    "carries": ("Carries it", "Can a linear probe read it right before that word?"),
    "reads": ("Reads it", "Can a linear probe read it at the word that expresses it?"),
}


class Part(NamedTuple):
    """What is shown of one dictionary."""

    number: int
    name: str
    hash: str
    claims: Claims
    doses: tuple[Doses, ...]
    cards: tuple[Card, ...]
    has_catalogue: bool


class Report(NamedTuple):
    """The page and what it holds."""

    html: str
    n_cards: int


def report(title: str, n_cards: int, members: Sequence[Mapping[str, Artifact]], settings: Mapping[str, Any]) -> Report:
    """The whole page.

    Args:
        title: its heading.
        n_cards: feature cards per dictionary, at most.
        members: artifacts by stage, of every member of a sweep; all but `train` may be absent.
        settings: the resolved experiment as plain values.
    """
    read = read_members(members)
    parts, densities = _parts(read, n_cards)
    html = (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            facts=facts_of(read, settings),
            health=health_of(read),
            scorecards=[
                (card, shape_of(member), labelled_of(member))
                for member in read
                if (card := scorecard_of(member)) is not None
            ],
            sweep=sweep_rows(read) if len(read) > 1 else (),
            metrics=swept_metrics(),
            comparison=comparison_of(read),
            stability=stability_table(seed_groups(members)),
            curves=curves_of(read),
            densities=densities,
            parts=parts,
            knowledge=[_KNOWLEDGE[question] for question in KNOWLEDGE],
            questions=[_QUESTIONS[stage] for stage in FINDING_STAGES],
            n_shades=N_SHADES,
            min_active=MIN_ACTIVE,
        )
    )
    return Report(html, sum(len(part.cards) for part in parts))


def environment() -> Environment:
    """The templates; whatever is put into them is escaped."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _parts(members: Sequence[Member], n_cards: int) -> tuple[list[Part], Densities | None]:
    parts, densities, n_tokens = [], {}, {}
    for member in members:
        cards: tuple[Card, ...] = ()
        if "catalogue" in member.artifacts:
            with Catalogue(member.artifacts["catalogue"].path) as catalogue:
                densities[member.number], n_tokens[member.number] = catalogue.densities, catalogue.n_tokens
                cards = cards_of(member, catalogue, n_cards, reasons(member.all_findings))
        has_catalogue = "catalogue" in member.artifacts
        parts.append(
            Part(member.number, member.name, member.hash, claims_of(member), doses_of(member), cards, has_catalogue)
        )
    return parts, densities_of(members, densities, n_tokens)


def reasons(findings: Sequence[Finding]) -> dict[int, str]:
    """The best latents of the variables and whose they are: one of each variable, then the next of each."""
    latents: dict[str, dict[int, None]] = {}
    for finding in filter(is_about_best_latent, findings):
        latents.setdefault(finding.variable, {}).update(dict.fromkeys(finding.subject.latents))
    rounds = (
        latent for several in itertools.zip_longest(*latents.values()) for latent in several if latent is not None
    )
    owners = {latent: [variable for variable, own in latents.items() if latent in own] for latent in rounds}
    return {latent: f"best latent of {', '.join(variables)}" for latent, variables in owners.items()}
