"""A comparison as a page of its own, and its figures as files."""

from pathlib import Path

from markupsafe import Markup

from sae.dashboard.comparison import ComparisonView
from sae.dashboard.page import environment

PAGE = "comparison.html"


def write_page(folder: Path, view: ComparisonView) -> None:
    """Writes `comparison.html` and a `front-….svg` for each figure into `folder`."""
    html = environment().get_template("comparison_page.html").render(title="Comparison", view=view)
    (folder / PAGE).write_text(html, encoding="utf-8")
    for figure in view.figures:
        (folder / f"{figure.name}.svg").write_text(as_file(figure.svg), encoding="utf-8")


def as_file(svg: Markup) -> str:
    """An element of a page as a file that stands alone."""
    return str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" ', 1) + "\n"
