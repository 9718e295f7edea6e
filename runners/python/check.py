"""Use each library of the image once: a missing shared object or a file dropped too many shows here."""

import io

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import mpl_toolkits.mplot3d  # noqa: F401
import numpy as np
import numpy.testing
import openpyxl
import pandas as pd
import pandas.testing
import polars as pl
import requests
import scipy.integrate
import scipy.optimize
import scipy.stats
import sklearn.datasets
import sklearn.linear_model
import sympy
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
