"""Plots as SVG for a page: no script, no fonts from elsewhere, the page's own colours."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree as ET

import pygal
from markupsafe import Markup
from pygal.style import Style

# pygal leaves a hook for its maps in the import system, of a kind that Python warns of whenever any
# module is looked for afterwards. No map is drawn here.
sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != "pygal"]

_SVG = "{http://www.w3.org/2000/svg}"
# The page sets these, in light and in dark.
_COLOURS = ("var(--first)", "var(--second)", "var(--third)", "var(--fourth)")
_FONT = "system-ui, sans-serif"
_WIDTH, _HEIGHT = 440, 250


@dataclass(frozen=True)
class Value:
    """A value with its 95 % interval, as far as it has one."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """A line or a set of bars with its name."""

    name: str
    points: Sequence[tuple[float, float | None]] | Sequence[Value]
    dashed: bool = False


def lines(
    name: str,
    about: str,
    series: Sequence[Series],
    *,
    x_title: str,
    dots: bool = False,
    percent: Literal["", "x", "xy"] = "",
) -> Markup:
    """Draw lines through points of x and y.

    Args:
        name: of the plot, once in a page: letters, digits and hyphens.
        about: what it shows, for those who cannot see it.
        series: what is drawn.
        x_title: what x is.
        dots: whether points are marked.
        percent: which axes are shares.
    """
    chart = pygal.XY(**_settings(x_title), show_dots=dots, dots_size=3)
    chart.x_value_formatter = _percent if "x" in percent else _short
    chart.value_formatter = _percent if "y" in percent else _short
    for one in series:
        style = {"width": 2.5, **({"dasharray": "6, 5"} if one.dashed else {})}
        chart.add(one.name, list(one.points), stroke_style=style)
    return _markup(chart, name, about, series)


def bars(
    name: str,
    about: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    x_title: str,
    percent: bool = False,
) -> Markup:
    """Draw bars beside each other, with intervals; see `lines` for the arguments."""
    chart = pygal.Bar(**_settings(x_title), rounded_bars=1)
    chart.x_labels = list(labels)
    chart.x_label_rotation = 30 if sum(map(len, labels)) > 48 else 0
    chart.value_formatter = _percent if percent else _short
    values = [value for one in series for value in one.points if isinstance(value, Value)]
    ends = [end for one in values for end in (one.value, one.low, one.high) if end is not None]
    chart.range = (min(0.0, *ends), max(0.0, *ends)) if ends else None
    for one in series:
        chart.add(one.name, [_bar(value) for value in one.points if isinstance(value, Value)])
    return _markup(chart, name, about, series)


def histogram(
    name: str,
    about: str,
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    x_title: str,
    percent: bool = False,
) -> Markup:
    """Draw how many values are between each two edges."""
    chart = pygal.Histogram(**_settings(x_title))
    chart.value_formatter, chart.x_value_formatter = _short, _percent if percent else _short
    chart.add(x_title, [(n, edges[at], edges[at + 1]) for at, n in enumerate(counts)])
    return _markup(chart, name, about)


def _bar(value: Value) -> dict[str, Any] | None:
    if value.value is None:
        return None
    if value.low is None or value.high is None:
        return {"value": value.value}
    return {"value": value.value, "ci": {"low": value.low, "high": value.high}}


def _settings(x_title: str) -> dict[str, Any]:
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--ink)",
        foreground_strong="var(--ink)",
        foreground_subtle="var(--line)",
        guide_stroke_color="var(--line)",
        major_guide_stroke_color="var(--line)",
        guide_stroke_dasharray="0",
        major_guide_stroke_dasharray="0",
        opacity=".85",
        colors=_COLOURS,
        ci_colors=("var(--ink)",),
        font_family=_FONT,
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=13,
        title_font_size=13,
        transition="0s",
    )
    return {
        "style": style,
        "js": (),
        "width": _WIDTH,
        "height": _HEIGHT,
        "margin": 6,
        "margin_right": 22,
        "x_title": x_title,
        "show_legend": False,  # the page has its own, in letters of its own size
        "disable_xml_declaration": True,
        "show_minor_x_labels": True,
        "truncate_label": -1,
        "max_scale": 7,
        "no_data_text": "nothing to show",
    }


def _markup(chart: Any, name: str, about: str, series: Sequence[Series] = ()) -> Markup:
    """Return a chart as SVG without scripts, the same for the same data."""
    chart.uuid = name
    root = ET.fromstring(chart.render(is_unicode=True))  # noqa: S314 - it was made here
    root.set("role", "img")
    root.set("aria-label", about)
    for above in list(root.iter()):
        for element in list(above):
            kind = element.tag if isinstance(element.tag, str) else ""
            if kind == f"{_SVG}script" or not kind:
                above.remove(element)
            elif kind == f"{_SVG}desc":
                _tell(above, element)
    ET.register_namespace("", _SVG[1:-1])
    drawn = Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by ElementTree
    return drawn + _legend([one.name for one in series])


def _legend(names: Sequence[str]) -> Markup:
    """Name the colours, where there is more than one."""
    if len(names) < 2:
        return Markup()
    keys = [
        Markup('<li><span class="key" style="background: {}"></span>{}</li>').format(colour, name)
        for colour, name in zip(_COLOURS, names, strict=False)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup().join(keys))


def _tell(above: ET.Element, about: ET.Element) -> None:
    """Let browsers show a value beside the mouse, and leave out the places of marks."""
    if about.get("class") == "value" and above.find(f"{_SVG}title") is None:
        about.tag = f"{_SVG}title"
        del about.attrib["class"]
    else:
        above.remove(about)


def _percent(value: Any) -> str:
    return _short(value * 100) + " %" if isinstance(value, int | float) else str(value)


def _short(value: Any) -> str:
    """Return a number with three places that count, and thousands apart."""
    if not isinstance(value, int | float):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
