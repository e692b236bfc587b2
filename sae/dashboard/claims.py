"""Findings as rows: per variable what probing, steering and interventions say of its best latent, and all of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from sae.core.records import Finding
from sae.dashboard.measured import Measured, measured, with_interval
from sae.dashboard.member import FINDING_STAGES, Member
from sae.dashboard.numbers import percent, probability, short
from sae.dashboard.verdict import Verdict, verdict
from sae.probe.knowledge import KIND, Question


class Claim(NamedTuple):
    """One finding, ready to be shown."""

    stage: str
    what: str
    """What was done, in words."""
    deed: str
    """The same in a word or two, where a table's column does not say it."""
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


class Answer(NamedTuple):
    """What one stage says of a variable."""

    claims: tuple[Claim, ...]
    """Of its best latent; empty where the stage says nothing."""
    beside: tuple[Claim, ...]
    """Of the probes and directions that do the same without a dictionary."""


class VariableRow(NamedTuple):
    """What is known of a variable: by the model, and by its best latent."""

    variable: str
    knowledge: tuple[Claim | None, ...]
    """Of the model beside its untrained twin, in the order of `KNOWLEDGE`; None where it was not asked."""
    latents: tuple[int, ...]
    answers: tuple[Answer, ...]
    """In the order of `FINDING_STAGES`."""

    @property
    def has_knowledge(self) -> bool:
        return any(self.knowledge)

    @property
    def n_documents(self) -> int:
        """Test texts on which the model's knowledge was measured."""
        return max((claim.n_documents for claim in self.knowledge if claim), default=0)


class Claims(NamedTuple):
    """Everything that one member claims."""

    variables: tuple[VariableRow, ...]
    by_variable: tuple[tuple[str, tuple[Claim, ...]], ...]
    missing: tuple[str, ...]
    """Stages that were not run."""


_WITHOUT_DICTIONARY = ("direction", "probe", "site")
KNOWLEDGE = get_args(Question)
_DEEDS = {"ablation": "removed", "patching": "set as in the twin"}


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
        what=_what(finding),
        deed=_DEEDS.get(finding.kind, ""),
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


def _what(finding: Finding) -> str:
    """What was done, in words, with what was chosen and paid."""
    settings = finding.settings
    match finding.kind:
        case "probe":
            return (
                f"tells {' or '.join(settings['targets'])}" if settings.get("level") == "label" else "tells its label"
            )
        case "knowledge":
            says = settings["method"] == "says"
            return "the model says what follows" if says else "tells its label"
        case "steering":
            return f"push towards {_targets(settings)} ({_push(settings)})"
        case "ablation":
            return "removed: loss of the text's own label"
        case "patching":
            part = settings.get("share_of_whole")
            ceiling = f", {percent(part)} of what patching the whole activation does" if part is not None else ""
            return f"set as in the twin: gain of the twin's label{ceiling}"
        case _:
            return finding.kind.replace("_", " ")


def _targets(settings: Mapping[str, Any]) -> str:
    targets = [str(t) for t in settings.get("targets", [settings.get("target")])]
    return " or ".join(f"“{target}”" for target in targets)


def _push(settings: Mapping[str, Any]) -> str:
    """How hard a push was, and its cost; a mean over several labels has no one dose."""
    cost = measured(settings.get("kl_nats"), settings.get("kl_low"), settings.get("kl_high"))
    parts = ["at equal cost"] if settings.get("at_equal_cost") else []
    parts += [f"dose {short(settings['dose'])} σ"] if "dose" in settings else []
    parts += [" ".join(filter(None, ["KL", cost.value, cost.interval, "nats per token"]))]
    return ", ".join(parts)


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
    latents = dict.fromkeys(latent for f, _ in claims if is_about_best_latent(f) for latent in f.subject.latents)
    answers = (_answer([(f, c) for f, c in claims if c.stage == stage]) for stage in FINDING_STAGES)
    known = {f.settings["method"]: c for f, c in claims if f.kind == KIND}
    return VariableRow(variable, tuple(known.get(each) for each in KNOWLEDGE), tuple(latents), tuple(answers))


def _answer(claims: Sequence[tuple[Finding, Claim]]) -> Answer:
    return Answer(
        tuple(c for f, c in claims if is_about_best_latent(f)),
        tuple(c for f, c in claims if is_headline(f) and f.subject.kind in _WITHOUT_DICTIONARY and f.kind != KIND),
    )


def is_about_best_latent(finding: Finding) -> bool:
    """Whether a finding says in short what is known of a variable's best latent."""
    method = finding.settings.get("method", "best_latent")
    return is_headline(finding) and finding.subject.kind in ("latent", "latents") and method == "best_latent"


def is_headline(finding: Finding) -> bool:
    """Findings on a whole variable; those on one of several labels, or at one of several doses, are details."""
    return finding.settings.get("level", "variable") == "variable"
