"""The page as a whole: offline, escaped, well-formed, deterministic, and complete in what it claims."""

from html.parser import HTMLParser
from typing import Any

import pytest

from sae.core.artifact import Artifact
from sae.dashboard.measured import with_interval
from sae.dashboard.member import read_members
from sae.dashboard.page import report

Run = dict[str, Artifact]
N_CARDS = 8
VOID = {"col", "meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and collects what the page refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.elements: list[str] = []
        self.feed(html)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "style"):
                self.references.append(f"{name}={value}")


@pytest.fixture(scope="module")
def html(run: Run, settings: dict[str, Any]) -> str:
    return report("Test", N_CARDS, (run,), {**settings, "model": "<b>m</b>"}).html


def test_it_is_well_formed_and_loads_nothing(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    links = [r.removeprefix("href=#") for r in page.references if r.startswith("href=#")]
    assert set(links) <= set(page.ids)
    for reference in page.references:
        assert reference.startswith(("href=#", "style=", "href=data:,"))
        assert "url(h" not in reference
    assert not {"script", "img", "iframe", "object", "embed"} & set(page.elements)
    assert "@import" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_text_of_the_corpus_is_escaped(html: str) -> None:
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    assert "<b>m</b>" not in html


def test_the_same_run_gives_the_same_bytes(html: str, run: Run, settings: dict[str, Any]) -> None:
    assert report("Test", N_CARDS, (run,), {**settings, "model": "<b>m</b>"}).html == html


def test_every_finding_stands_there_with_its_interval_and_control(html: str, run: Run) -> None:
    (member,) = read_members((run,))
    assert len(member.all_findings) == 25
    for finding in member.all_findings:
        for number in (
            with_interval(finding.effect, finding.interval),
            with_interval(finding.control.effect, finding.control.interval),
        ):
            assert number.interval in html
    assert member.scores is not None
    for scores in member.scores.contenders.values():
        assert all(score.low is not None for score in scores.values())


@pytest.mark.parametrize("absent", ["evaluate", "catalogue", "steer"])
def test_a_stage_that_was_not_run_is_said_to_be_absent(run: Run, settings: dict[str, Any], absent: str) -> None:
    html = report("Test", 2, ({stage: a for stage, a in run.items() if stage != absent},), settings).html
    Page(html)
    assert 'class="absent"' in html


def test_the_shape_of_a_dictionary_stands_beside_the_untrained_one(html: str) -> None:
    assert "Shape of the dictionary" in html
    assert html.count("0.200 (0.100 to 0.900)") == 4, "two spreads, two dictionaries"
    assert html.count("0.125") >= 2


def test_a_dictionary_alone_gives_a_page(run: Run, settings: dict[str, Any]) -> None:
    Page(report("Test", N_CARDS, ({"train": run["train"]},), settings).html)


def test_members_of_a_sweep_stand_side_by_side(run: Run, sparser: Run, settings: dict[str, Any]) -> None:
    result = report("Test", 3, (run, sparser), settings)
    page = Page(result.html)
    assert "All dictionaries side by side" in result.html
    assert "Which differences are more than noise?" in result.html
    assert "= no difference" in result.html, "both have one evaluation"
    assert result.html.count("l0 = 32") > 2
    assert len(page.ids) == len(set(page.ids))
    assert result.n_cards == 6
