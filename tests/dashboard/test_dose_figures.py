"""Dose-response figures are drawn from the steering findings, one pair per variable and label."""

from sae.core.artifact import Artifact
from sae.dashboard.doses import doses_of
from sae.dashboard.member import read_members


def test_every_steered_label_has_its_two_figures(run: dict[str, Artifact]) -> None:
    (member,) = read_members((run,))
    figures = doses_of(member)
    assert [(f.variable, f.target) for f in figures] == [("number", "plural"), ("sentiment", "plural")]
    for figure in figures:
        assert [entry.name for entry in figure.legend] == ["best latent", "difference of means"]
        assert figure.by_dose.startswith("<svg")
        assert "nats per token" in figure.by_cost


def test_without_steering_there_is_none(run: dict[str, Artifact]) -> None:
    (member,) = read_members(({"train": run["train"]},))
    assert doses_of(member) == ()
