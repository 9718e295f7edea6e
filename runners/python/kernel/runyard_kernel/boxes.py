"""Box plots as data: the library that reads charts guesses them from lines, which fails for most of them.

So the statistics that matplotlib draws are remembered with their axes.
"""

import sys
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

from runyard_kernel import bars

MODULE = "matplotlib.axes._axes"
ATTRIBUTE = "_runyard_boxes"


def remember():
    """Have box plots remembered, from now on or once matplotlib is imported."""
    if MODULE in sys.modules:
        _wrap(sys.modules[MODULE])
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Wraps matplotlib's drawing of boxes when it is imported."""

    def find_spec(self, name, _path=None, _target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _wrap(module)

            spec.loader.exec_module = exec_module
        return spec


def _wrap(module):
    draw = module.Axes.bxp

    @wraps(draw)
    def bxp(self, bxpstats, *args, **kwargs):
        found = draw(self, bxpstats, *args, **kwargs)
        is_flat = kwargs.get("orientation") == "horizontal" or kwargs.get("vert") is False
        vars(self).setdefault(ATTRIBUTE, []).extend((is_flat, one) for one in bxpstats)
        return found

    module.Axes.bxp = bxp


def reading(get_chart):
    """Return a function that gives the chart of axes: of remembered boxes, of bars, and else by `get_chart`."""

    @wraps(get_chart)
    def chart_of(ax):
        boxes = vars(ax).get(ATTRIBUTE)
        if boxes:
            return _chart(ax, boxes)
        chart = get_chart(ax)
        return bars.chart_of(ax) if type(chart).__name__ == "BarChart" and bars.are_known(ax) else chart

    return chart_of


def _chart(ax, boxes):
    from e2b_charts.charts.bars import BoxAndWhiskerChart, BoxAndWhiskerData
    from e2b_charts.charts.base import Chart2D

    chart = BoxAndWhiskerChart()
    Chart2D._extract_info(chart, ax)
    is_flat = boxes[0][0]
    ticks = [tick.get_text() for tick in (ax.get_yticklabels() if is_flat else ax.get_xticklabels())]
    if is_flat:
        chart._change_orientation()
    for number, (_, box) in enumerate(boxes):
        tick = ticks[number] if number < len(ticks) else ""
        chart.elements.append(
            BoxAndWhiskerData(
                label=str(box.get("label") or tick or number + 1),
                min=box["whislo"],
                first_quartile=box["q1"],
                median=box["med"],
                third_quartile=box["q3"],
                max=box["whishi"],
                outliers=[float(one) for one in box.get("fliers", ())],
            )
        )
    return chart
