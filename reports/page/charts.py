"""Draws charts as static SVG with Vega-Lite, for a page that runs no script.

The SVG is taken apart and written anew with the few elements and attributes a chart needs: nothing
of it is trusted, and its colours become classes, which the page's style sheet makes light or dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup, escape

from checks.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from reports.values.diagnosed import DiagnosedTable
    from reports.values.trend import MeasuredRun

WIDTH = 360
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VERSION = "6.4"
"""Of Vega-Lite, as vl-convert names it."""
BEFORE, AFTER, SOFT, LINE = "#010101", "#020202", "#030303", "#040404"
CLASSES = {BEFORE: "before", AFTER: "after", SOFT: "soft", LINE: "line"}
"""The class of each colour that a chart is drawn in."""
MOST_TENANTS = 15
LABEL = 18
"""Characters of a name beside a bar."""
ELEMENTS = {"svg", "g", "path", "line", "rect", "text"}
ATTRIBUTES = {
    "d", "x", "x2", "y", "y2", "width", "height", "viewBox", "transform", "text-anchor",
    "stroke-width", "font-size", "opacity",
}  # fmt: skip


def failures_over_time(table: DiagnosedTable) -> Markup | None:
    """Failing rows by the hour, day or month in which they were created."""
    if len(table.times) < 2:
        return None
    bars = [{"t": _utc(one.begins), "n": one.failing} for one in table.times]
    unit = {"hour": "utcyearmonthdatehours", "day": "utcyearmonthdate", "month": "utcyearmonth"}
    label = {"hour": "%d %b %H:%M", "day": "%d %b %Y", "month": "%b %Y"}[table.unit]
    x = {
        "field": "t", "type": "temporal", "timeUnit": unit[table.unit], "title": None,
        "scale": {"type": "utc"},
        "axis": {"format": label, "tickCount": 3, "labelFlush": True, "labelSeparation": 12},
    }  # fmt: skip
    axis = {"tickMinStep": 1, "tickCount": min(4, max(one.failing for one in table.times))}
    y = {"field": "n", "type": "quantitative", "title": None, "axis": {"format": ",d", **axis}}
    return _drawn(
        {
            "data": {"values": bars},
            "height": 120,
            "mark": {"type": "bar", "color": BEFORE, "binSpacing": 1},
            "encoding": {"x": x, "y": y},
        },
        f"Failing rows by {table.unit} of creation in UTC: {_range([b['n'] for b in bars])}",
    )


def coverage_by_tenant(lines: Sequence[tuple[str, float, float | None]]) -> Markup | None:
    """The share of whole rows of each tenant, 0 to 1, before and after the repair.

    Lines are (name, before, after); `after` None where nothing was measured again.
    """
    if not lines:
        return None
    values = [
        {"n": n, "t": _label(n, name), "w": w, "s": s}
        for n, (name, before, after) in enumerate(lines[:MOST_TENANTS])
        for w, s in (("before", before), *((("after", after),) if after is not None else ()))
    ]
    # Apart from a point at the axis, in a browser's font too, which may be wider.
    y = {
        "field": "t", "type": "nominal", "sort": {"field": "n"},
        "axis": {
            "title": None, "ticks": False, "labelPadding": 10,
            "labelExpr": "split(datum.label, '\\u0000')[1]",
        },
    }  # fmt: skip
    low = min(value["s"] for value in values)
    x = {
        "field": "s", "type": "quantitative", "title": None,
        "axis": {"format": "~%", "tickCount": 4},
        "scale": {"domain": [0 if low < 0.5 else 0.5 if low < 0.9 else 0.9, 1], "nice": False},
    }  # fmt: skip
    colour = {
        "field": "w", "type": "nominal", "legend": None,
        "scale": {"domain": ["before", "after"], "range": [BEFORE, AFTER]},
    }  # fmt: skip
    return _drawn(
        {
            "data": {"values": values},
            "padding": {"left": 14, "top": 5, "right": 5, "bottom": 5},
            "height": 20 * len({value["n"] for value in values}),
            "layer": [
                {
                    "mark": {"type": "rule", "color": LINE, "strokeWidth": 2},
                    "encoding": {
                        "y": y,
                        "x": {"aggregate": "min", **x},
                        "x2": {"aggregate": "max", "field": "s"},
                    },
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                    "encoding": {"y": y, "x": x, "color": colour},
                },
            ],
        },
        f"Share of whole rows by tenant, {len(lines[:MOST_TENANTS])} of them",
    )


def coverage_over_runs(runs: Sequence[MeasuredRun]) -> Markup | None:
    """The lowest coverage of each run; the runs stand side by side, whatever lies between them."""
    if len(runs) < 2:
        return None
    values = [
        {"n": n, "c": run.coverage, "at": f"{run.at:%d %b %H:%M}"} for n, run in enumerate(runs)
    ]
    low = min(run.coverage for run in runs)
    x = {
        "field": "n", "type": "quantitative", "title": None, "axis": None,
        "scale": {"nice": False, "zero": False},
    }  # fmt: skip
    y = {
        "field": "c", "type": "quantitative", "title": None,
        "axis": {"format": ".4~%" if low > 0.99 else ".2~%", "tickCount": 4},
        "scale": {"zero": False, "domainMax": 1},
    }  # fmt: skip
    return _drawn(
        {
            "data": {"values": values},
            "height": 110,
            "mark": {
                "type": "line", "color": BEFORE, "strokeWidth": 2,
                "point": {"filled": True, "color": AFTER, "size": 36},
            },
            "encoding": {"x": x, "y": y},
        },
        f"Lowest coverage of any check over {len(runs)} runs, the last"
        f" {100 * runs[-1].coverage:.2f}%",
    )  # fmt: skip


def _label(place: int, name: str) -> str:
    # Tenants that begin alike are different lines; only what follows the mark is shown.
    shown = visible(name, keep="") or "(empty)"
    return f"{place}\0{shown if len(shown) <= LABEL else shown[: LABEL - 1] + '…'}"


def _utc(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _range(counts: Sequence[int]) -> str:
    return f"{len(counts)} of them, up to {max(counts):,} rows"


def _drawn(spec: Mapping[str, Any], says: str) -> Markup | None:
    """The chart as an SVG element; None where the charting library is not there."""
    whole = {
        "$schema": SCHEMA,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "width": WIDTH,
        "background": None,
        "config": CONFIG,
        **spec,
    }
    try:
        import vl_convert

        drawn = vl_convert.vegalite_to_svg(whole, vl_version=VERSION)
    except (ImportError, ValueError):
        return None  # A page without a chart is better than none.
    svg = ElementTree.fromstring(drawn)  # noqa: S314
    svg.attrib.pop("width", None)
    svg.attrib.pop("height", None)
    return Markup("").join(_written(svg, f' role="img" aria-label="{escape(says)}" class="chart"'))


def _written(element: ElementTree.Element, more: str = "") -> Iterator[Markup]:
    name = element.tag.rpartition("}")[2]
    if name not in ELEMENTS:
        return
    attributes = "".join(
        f' {key}="{escape(value)}"' for key, value in element.items() if key in ATTRIBUTES
    )
    classes = [
        f"{kind}-{CLASSES[colour]}"
        for kind in ("fill", "stroke")
        if (colour := element.get(kind, "")) in CLASSES
    ]
    if name in ("path", "line", "rect") and not classes:
        return  # A background or a clip: nothing to see.
    said = f' class="{" ".join(classes)}"' if classes else ""
    yield Markup(f"<{name}{more}{attributes}{said}>")  # noqa: S704 - names of our own, values escaped
    if name == "text":
        yield escape(element.text or "")
    for child in element:
        yield from _written(child)
    yield Markup(f"</{name}>")  # noqa: S704


CONFIG: Mapping[str, Any] = {
    "font": "sans-serif",
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 11, "labelOverlap": "greedy", "labelColor": SOFT, "tickColor": LINE,
        "domainColor": LINE,
        "gridColor": LINE, "gridOpacity": 1, "labelLimit": 120,
    },
    "axisX": {"grid": False},
}  # fmt: skip
