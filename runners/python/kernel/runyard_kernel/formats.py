"""The formats of a result that IPython does not make: tables and charts as data; and all of them as bytes."""

import base64
import json
import math
import sys

from IPython.core.formatters import BaseFormatter
from traitlets import ObjectName, Unicode

from runyard_kernel import boxes

DATA_TYPE = "application/vnd.runyard.data+json"
CHART_TYPE = "application/vnd.runyard.chart+json"
#: A larger text is cut: it is for people and models to read.
MAX_TEXT = 256 * 1024
#: Of a table as data; a larger one has its HTML and text only.
MAX_CELLS = 200_000
MAX_DEPTH = 60


class DataFormatter(BaseFormatter):
    """Formats tables as lists by column."""

    format_type = Unicode(DATA_TYPE)
    print_method = ObjectName("_repr_runyard_data_")
    _return_type = dict


class ChartFormatter(BaseFormatter):
    """Formats figures as the data that they show."""

    format_type = Unicode(CHART_TYPE)
    print_method = ObjectName("_repr_runyard_chart_")
    _return_type = dict

    def pop(self, typ, default=None):  # noqa: ARG002
        """Remove nothing: matplotlib-inline removes figures from every formatter, to add those of its own."""
        return default


def add_formatters(display_formatter):
    """Have tables and figures formatted as data too."""
    data = DataFormatter(parent=display_formatter)
    for module in ("pandas", "pandas.core.frame"):
        data.for_type_by_name(module, "DataFrame", _table)
    for module in ("polars.dataframe.frame",):
        data.for_type_by_name(module, "DataFrame", _polars_table)
    chart = ChartFormatter(parent=display_formatter)
    chart.for_type_by_name("matplotlib.figure", "Figure", _chart)
    display_formatter.formatters[DATA_TYPE] = data
    display_formatter.formatters[CHART_TYPE] = chart


def _table(frame):
    if frame.size > MAX_CELLS:
        return None
    return {str(name): [plain(value) for value in frame.iloc[:, at]] for at, name in enumerate(frame.columns)}


def _polars_table(frame):
    if frame.width * frame.height > MAX_CELLS:
        return None
    return {name: [plain(value) for value in frame[name]] for name in frame.columns}


def _chart(figure):
    try:
        from e2b_charts import main

        if not hasattr(main.get_chart_from_ax, "__wrapped__"):
            main.get_chart_from_ax = boxes.reading(main.get_chart_from_ax)
        return plain(main.chart_figure_to_dict(figure))
    except Exception:  # a figure of a kind that it does not know
        return None


def plain(value, depth=0):
    """Return a value as JSON can have it: no NaN, no numpy, texts in place of all else."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {str(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one, depth + 1) for one in value]
    return _other(value, depth)


def _other(value, depth):
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NaT or value is pandas.NA):
        return None
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        return plain(value.tolist(), depth + 1) if not isinstance(value, numpy.datetime64) else str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def parts_of(bundle):
    """Return a MIME bundle as bytes by type: text is cut to its bound, JSON is encoded, the rest left out."""
    parts = {}
    for name, value in bundle.items():
        try:
            data = _encoded(str(name), value)
        except Exception:  # noqa: S112  # an object of the cell's own
            continue
        if data is not None:
            parts[str(name)] = data
    return parts


def _encoded(name, value):
    if value is None:
        return None
    if name == "application/json" or name.endswith("+json"):
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    if isinstance(value, bytes):
        return base64.b64encode(value)
    text = value if isinstance(value, str) else json.dumps(plain(value))
    if name == "text/plain" and len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT} more characters)"
    return text.encode("utf-8", "replace")
