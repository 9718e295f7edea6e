"""Use each library of the image once: a missing shared object or a file dropped too many shows here."""

import io

import altair as alt
import bs4
import cv2
import docx
import jinja2
import lxml.etree
import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import mpl_toolkits.mplot3d  # noqa: F401
import networkx as nx
import numpy as np
import numpy.testing
import openpyxl
import pandas as pd
import pandas.testing
import plotly.graph_objects
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pypdf
import pytest
import reportlab.pdfgen.canvas
import requests
import scipy.integrate
import scipy.optimize
import scipy.stats
import seaborn as sns
import shapely
import sklearn.datasets
import sklearn.linear_model
import statsmodels.api
import sympy
import tabulate
import tqdm
import xlsxwriter
import yaml
from PIL import Image

numpy.testing.assert_allclose(np.linalg.inv(np.eye(3)), np.eye(3))
frame = pd.DataFrame({"a": [1, 2, 3]})
pandas.testing.assert_frame_equal(frame, frame.copy())
book = io.BytesIO()
frame.to_excel(book, index=False)
assert openpyxl.load_workbook(book).active is not None
assert pl.DataFrame({"a": [1, 2]})["a"].sum() == 3
assert abs(scipy.integrate.quad(np.sin, 0, np.pi)[0] - 2) < 1e-9
assert scipy.optimize.minimize(lambda x: (x[0] - 1) ** 2, [0.0]).success
assert scipy.stats.norm.cdf(0) == 0.5
sklearn.linear_model.LinearRegression().fit(*sklearn.datasets.load_diabetes(return_X_y=True))
x = sympy.symbols("x")
assert sympy.integrate(2 * x, x) == x**2
plt.plot([1, 2], [3, 4])
picture = io.BytesIO()
plt.savefig(picture)
assert Image.open(picture).format == "PNG"
assert requests.Request("GET", "http://localhost/").prepare().url

assert alt.Chart(frame).mark_bar().to_dict()["mark"]["type"] == "bar"
assert bs4.BeautifulSoup("<p>a", "lxml").p.text == "a"
assert cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[0]
docx.Document().save(io.BytesIO())
assert jinja2.Template("{{ 1 + 1 }}").render() == "2"
assert lxml.etree.fromstring("<a/>").tag == "a"
assert nx.path_graph(3).number_of_edges() == 2
assert plotly.graph_objects.Figure().to_json()
assert psutil.Process().memory_info().rss
table = io.BytesIO()
frame.to_parquet(table)
assert pq.read_table(pa.BufferReader(table.getvalue())).num_rows == 3
page = io.BytesIO()
canvas = reportlab.pdfgen.canvas.Canvas(page)
canvas.drawString(9, 9, "text")
canvas.save()
assert "text" in pypdf.PdfReader(page).pages[0].extract_text()
assert pytest.approx(0.1 + 0.2) == 0.3
sns.histplot([1, 2, 3])
assert shapely.box(0, 0, 2, 2).area == 4
assert statsmodels.api.OLS([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).fit().params[0] > 0
assert tabulate.tabulate([[1]])
assert list(tqdm.tqdm([1], disable=True)) == [1]
xlsxwriter.Workbook(io.BytesIO()).close()
assert yaml.load("a: 1", yaml.CSafeLoader) == {"a": 1}
