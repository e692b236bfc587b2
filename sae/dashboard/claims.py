"""Findings as rows: per variable what probing, steering and interventions say of its best latent, and all of them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sae.core.records import Finding
from sae.dashboard.measured import Measured, with_interval
from sae.dashboard.member import FINDING_STAGES, Member
from sae.dashboard.numbers import probability
from sae.dashboard.verdict import Verdict, verdict


class Claim(NamedTuple):
    """One finding, ready to be shown."""

    stage: str
    what: str
    """The kind of finding, in words."""
    variable: str
    subject: str
    latents: tuple[int, ...]
    effect: Measured
    unit: str
    direction: str
    control: Measured
    control_what: str
    q: str
    n_documents: int
    verdict: Verdict


class VariableRow(NamedTuple):
    """What is known of a variable's best latent."""

    variable: str
    latents: tuple[int, ...]
    by_stage: tuple[tuple[Claim, ...], ...]
    """In the order of `FINDING_STAGES`; empty where a stage says nothing of it."""


class Claims(NamedTuple):
    """Everything that one member claims."""

    variables: tuple[VariableRow, ...]
    by_variable: tuple[tuple[str, tuple[Claim, ...]], ...]
    missing: tuple[str, ...]
    """Stages that were not run."""


_KINDS = {"probe": "probing"}


def claims_of(member: Member) -> Claims:
    """Rows of all findings of a member, in the order in which its stages wrote them."""
    claims = [(f, claim_of(stage, f)) for stage in FINDING_STAGES for f in member.findings.get(stage, ())]
    variables = list(dict.fromkeys(f.variable for f, _ in claims))
    return Claims(
        tuple(_variable_row(v, [(f, c) for f, c in claims if f.variable == v]) for v in variables),
        tuple((v, tuple(c for f, c in claims if f.variable == v)) for v in variables),
        tuple(stage for stage in FINDING_STAGES if stage not in member.findings),
    )


def claim_of(stage: str, finding: Finding) -> Claim:
    """One finding as a row."""
    return Claim(
        stage=stage,
        what=_KINDS.get(finding.kind, finding.kind.replace("_", " ")),
        variable=finding.variable,
        subject=subject_words(finding),
        latents=finding.subject.latents,
        effect=with_interval(finding.effect, finding.interval),
        unit=finding.unit,
        direction=finding.direction,
        control=with_interval(finding.control.effect, finding.control.interval),
        control_what=finding.control.what,
        q=_tested(finding),
        n_documents=finding.n_documents,
        verdict=verdict(finding),
    )


def subject_words(finding: Finding) -> str:
    """What the finding is about."""
    subject = finding.subject
    if subject.name:
        return subject.name
    return {"latent": "latent", "latents": "latents"}.get(subject.kind, f"{subject.kind} at {subject.site}")


def _tested(finding: Finding) -> str:
    if finding.q is not None:
        return f"q {_equal(probability(finding.q))}"
    return f"p {_equal(probability(finding.p))}" if finding.p is not None else ""


def _equal(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"


def _variable_row(variable: str, claims: Sequence[tuple[Finding, Claim]]) -> VariableRow:
    own = [(f, c) for f, c in claims if is_about_best_latent(f)]
    latents = dict.fromkeys(latent for f, _ in own for latent in f.subject.latents)
    return VariableRow(
        variable, tuple(latents), tuple(tuple(c for _, c in own if c.stage == stage) for stage in FINDING_STAGES)
    )


def is_about_best_latent(finding: Finding) -> bool:
    """Whether a finding belongs in the table of best latents: those of single labels and other probes do not."""
    settings: dict[str, Any] = finding.settings
    return (
        finding.subject.kind in ("latent", "latents")
        and settings.get("method", "best_latent") == "best_latent"
        and settings.get("level", "variable") == "variable"
    )


def best_latents(findings: Iterable[Finding]) -> tuple[int, ...]:
    """Latents that the findings call a variable's best, each once, in their order."""
    chosen = (latent for f in findings if is_about_best_latent(f) for latent in f.subject.latents)
    return tuple(dict.fromkeys(chosen))
