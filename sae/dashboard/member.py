"""Everything that one member of a sweep left behind, read from its artifacts; where nothing is swept there is one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sae.core.artifact import Artifact
from sae.core.records import Finding, read_findings
from sae.evaluation.scorecard import Scorecard
from sae.evaluation.scorecard import read as read_scores

FINDING_STAGES = ("probe", "steer", "validate")


@dataclass(frozen=True)
class Member:
    """One dictionary and what was found of it; what was not run is empty."""

    number: int
    name: str
    """What tells it from the other members, such as `l0 = 16, seed = 1`; empty where there is only one."""
    artifacts: Mapping[str, Artifact]
    """By stage."""
    curves: tuple[dict[str, int | float], ...]
    """The records of metrics.jsonl."""
    scores: Scorecard | None
    findings: Mapping[str, tuple[Finding, ...]]
    """By stage."""

    @property
    def hash(self) -> str:
        """The dictionary's hash."""
        return self.artifacts["train"].hash

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        return tuple(f for findings in self.findings.values() for f in findings)


def read_members(members: Sequence[Mapping[str, Artifact]]) -> tuple[Member, ...]:
    """Reads what a report needs of the artifacts of each member."""
    names = member_names([dict(m["train"].manifest.get("inputs", {}).get("section", {})) for m in members])
    return tuple(_read(i, name, m) for i, (name, m) in enumerate(zip(names, members, strict=True)))


def _read(number: int, name: str, artifacts: Mapping[str, Artifact]) -> Member:
    return Member(
        number=number,
        name=name,
        artifacts=artifacts,
        curves=_curves(artifacts["train"]),
        scores=read_scores(artifacts["evaluate"].path) if "evaluate" in artifacts else None,
        findings={s: _findings(artifacts[s]) for s in FINDING_STAGES if s in artifacts},
    )


def _curves(artifact: Artifact) -> tuple[dict[str, int | float], ...]:
    file = artifact.path / "metrics.jsonl"
    if not file.is_file():
        return ()
    return tuple(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def _findings(artifact: Artifact) -> tuple[Finding, ...]:
    file = artifact.path / "findings.jsonl"
    empty = not file.is_file() or file.stat().st_size == 0
    return () if empty else tuple(read_findings(file, artifact.created))


def member_names(sections: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between the training sections, written `key = value`; empty for a single one."""
    if len(sections) == 1:
        return [""]
    keys = sorted({key for section in sections for key in section})
    varying = [k for k in keys if k != "sweep" and len({repr(section.get(k)) for section in sections}) > 1]
    return [", ".join(f"{k} = {s.get(k)}" for k in varying) or f"member {i}" for i, s in enumerate(sections)]
