"""Charts as SVG: bars, lowest first, and curves. The same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final[Mapping[str, str]] = {
    "ours": "#c2410c", "peer": "#64748b", "ceiling": "#cbd5e1", "generator": "#e2e8f0",
}  # fmt: skip
_SHADES: Final = ("#7c2d12", "#ea580c", "#fed7aa")
_GREY: Final = "#475569"
_WIDTH: Final = 8.0
_INCHES_PER_BAR: Final = 0.34


class Bar(NamedTuple):
    """One bar; `low` and `high` are drawn as its whisker."""

    label: str
    value: float
    low: float
    high: float
    kind: str = "ours"


class Curve(NamedTuple):
    """One line through points."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]


class Panel(NamedTuple):
    """Bars within bars: each label has a value in every series, smaller ones first."""

    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]


def bars(title: str, unit: str, shown: Sequence[Bar], *, in_order: bool = False) -> str:
    """Horizontal bars, each with its value: the lowest on top, or `in_order` as they are given."""
    by_value = sorted(shown, key=lambda bar: bar.value)
    ordered = list(reversed(shown if in_order else by_value))
    figure, axes = _figure(title, max(1.2, 0.9 + _INCHES_PER_BAR * len(ordered)))
    values = [bar.value for bar in ordered]
    spread = [
        [bar.value - bar.low for bar in ordered],
        [bar.high - bar.value for bar in ordered],
    ]
    axes.barh(
        [bar.label for bar in ordered], values, xerr=spread, ecolor=_GREY, capsize=2,
        color=[COLOURS[bar.kind] for bar in ordered], height=0.62,
    )  # fmt: skip
    most = max((bar.high for bar in ordered), default=0.0) or 1.0
    for at, bar in enumerate(ordered):
        axes.text(bar.high + most * 0.015, at, f"{bar.value:.3g}", va="center", color=_GREY)
    axes.set_xlim(0, most * 1.12)
    axes.set_xlabel(unit)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    return _rendered(figure)


def nested_bars(title: str, unit: str, panels: Sequence[Panel]) -> str:
    """One panel below the other, each with a scale of its own."""
    rows = sum(len(panel.labels) for panel in panels)
    height = 0.8 + 0.75 * len(panels) + _INCHES_PER_BAR * rows
    figure = _bare_figure(height)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    heights = [len(panel.labels) + 1.5 for panel in panels]
    grid = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _strip(axes, panel.title)
        labels, most = list(panel.labels)[::-1], 0.0
        shades = _SHADES[: len(panel.series)]
        for (name, values), shade in reversed(list(zip(panel.series.items(), shades, strict=True))):
            axes.barh(labels, list(values)[::-1], color=shade, height=0.62, label=name)
            most = max(most, *values)
        for at in range(len(labels)):
            shown = [list(values)[::-1][at] for values in panel.series.values()]
            text = " / ".join(f"{value:,.1f}" for value in shown)
            axes.text(max(shown) + most * 0.01, at, text, va="center", color=_GREY, fontsize=8)
        axes.set_xlim(0, (most or 1.0) * 1.3)
    grid[-1, 0].set_xlabel(unit)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], names[::-1], frameon=False, fontsize=8, loc="upper right", ncols=len(names)
    )
    return _rendered(figure)


def curves(title: str, x_unit: str, y_unit: str, shown: Sequence[Curve]) -> str:
    """Lines through points, the vertical axis logarithmic."""
    figure, axes = _figure(title, 3.6)
    for curve in shown:
        axes.plot(curve.xs, curve.ys, marker="o", markersize=4, label=curve.label)
    axes.set_yscale("log")
    axes.set_xlabel(x_unit)
    axes.set_ylabel(y_unit)
    axes.grid(visible=True, which="major", color="#e2e8f0")
    axes.legend(frameon=False)
    return _rendered(figure)


def _figure(title: str, height: float) -> tuple[Figure, Axes]:
    figure = _bare_figure(height)
    axes = figure.add_subplot()
    _strip(axes, title)
    return figure, axes


def _bare_figure(height: float) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second, and only where charts are drawn

    return Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")


def _strip(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _rendered(figure: Figure) -> str:
    import matplotlib as mpl  # noqa: PLC0415 - as above

    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": "telemetryd", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
