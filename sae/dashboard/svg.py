"""A Matplotlib figure as an SVG element within an HTML page.

What an SVG file has and a page must not: a declaration, metadata, namespaces, a style sheet that would apply to the
whole page, and identifiers that two figures share. Text stays text, so that the page's font and zoom apply.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1d2733", "#5b6876", "#e3e8ee"
SIZE_INCHES = (3.9, 2.5)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")


def draw(name: str, title: str, paint: Callable[[Axes], None], size: tuple[float, float] = SIZE_INCHES) -> Markup:
    """Runs `paint` on empty axes and returns the SVG element, the same bytes for the same drawing.

    Args:
        name: unique on the page; letters, digits and hyphens.
        title: what the figure shows, for those who hear the page.
        paint: draws on the axes.
        size: width and height in inches.
    """
    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The page's own fonts show the text; Matplotlib's only measures it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _bare(root, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-label": title}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _bare(root: ElementTree.Element, name: str) -> None:
    """Takes out what belongs to a file, and makes identifiers the figure's own."""
    used = {
        next(filter(None, m.groups())) for e in root.iter() for v in e.attrib.values() for m in _REFERENCE.finditer(v)
    }
    for element in list(root.iter()):
        for child in list(element):
            if _local(child.tag) in ("metadata", "style"):
                element.remove(child)
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _own(key, value, name)
            for key, value in element.attrib.items()
            if _local(key) != "id" or value in used
        }
        element.tail = None
        if not (element.text or "").strip():
            element.text = None


def _own(key: str, value: str, name: str) -> str:
    if _local(key) == "id":
        return f"{name}-{value}"
    if _local(key) == "style":
        value = re.sub(r"font-family:[^;]*;?", "", re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", value))
    return _REFERENCE.sub(lambda m: f"url(#{name}-{m[1]})" if m[1] else f"#{name}-{m[2]}", value)


def _local(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]
