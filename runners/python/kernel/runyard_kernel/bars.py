"""Bars as data: the library that reads charts takes bars of one height for horizontal ones, and ticks for bars."""

from itertools import pairwise

#: Positions of bars and of ticks that are numbers are the same up to this part of a bar's width.
NEAR = 0.01


def are_known(ax):
    """Return whether all bars of axes say how they lie."""
    lying = [getattr(one, "orientation", None) for one in ax.containers]
    return bool(lying) and all(one in ("vertical", "horizontal") for one in lying)


def chart_of(ax):
    """Return the chart of axes whose bars are known."""
    from e2b_charts.charts.bars import BarChart, BarData
    from e2b_charts.charts.base import Chart2D

    chart = BarChart()
    Chart2D._extract_info(chart, ax)
    is_flat = ax.containers[0].orientation == "horizontal"
    if is_flat:
        chart._change_orientation()
    axis = ax.yaxis if is_flat else ax.xaxis
    ticks = [(at, tick.get_text()) for at, tick in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)]
    near = _near(ticks)
    for number, container in enumerate(ax.containers):
        group = container.get_label()
        if group.startswith("_container"):
            group = f"Group {group.removeprefix('_container') or number}"
        for bar in container:
            label, value = _label(bar, ticks, near, is_flat), bar.get_width() if is_flat else bar.get_height()
            chart.elements.append(BarData(label=label, group=group, value=value))
    return chart


def _near(ticks):
    """Return how far from its tick a bar may be: groups stand beside their name. None: it is at a number."""
    places = sorted(at for at, text in ticks if text)
    if all(_is_number(text) for _, text in ticks if text):
        return None
    return min((after - before for before, after in pairwise(places)), default=1) / 2


def _is_number(text):
    try:
        float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return False
    return True


def _label(bar, ticks, near, is_flat):
    """Return the text of the tick that a bar belongs to, else its position."""
    begin, size = (bar.get_y(), bar.get_height()) if is_flat else (bar.get_x(), bar.get_width())
    middle = begin + size / 2
    far, text = min(((abs(at - middle), text) for at, text in ticks if text), default=(0, ""))
    return text if text and far <= (near or NEAR * abs(size)) else f"{middle:g}"
