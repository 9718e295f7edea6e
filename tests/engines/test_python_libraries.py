"""The libraries of the python image: each does its work inside a sandbox, and has the licence that the docs state."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from ops.images.packages import wanted
from sandbox.images import ImageStore
from tests.engines.python_libraries import LIBRARIES
from tests.support.python_packages import documented_licences, normalized

#: Statsmodels takes two seconds to import, and many times that on a busy machine.
LIMITS = {"timeout_ms": 60_000}
REPO = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("library", LIBRARIES)
def test_library_works_in_a_sandbox(run, library):
    sample = LIBRARIES[library]
    result = run("python", sample.code, limits=LIMITS, **sample.job)
    assert (result["exit_code"], result["stdout"]) == (sample.exit_code, sample.stdout), result["stderr"]
    assert result["stderr"] == ""


@pytest.mark.parametrize("code", ["import pandas", "import seaborn", "import pyarrow", "import cv2"])
def test_programs_with_libraries_come_from_a_template(run, column, code):
    if column.source != "template":
        pytest.skip("this column has no templates")
    # The first program of a variant may have to wait for it as a container.
    sources = [run("python", code)["isolation"]["source"] for _ in range(3)]
    assert "template" in sources, sources


def test_neither_template_nor_plain_program_has_imported_a_new_library(run):
    names = sorted(
        {"bs4", "cv2", "docx", "lxml", "pyarrow", "psutil", "pytest", "plotly", "seaborn", "numpy", "pandas"}
    )
    result = run("python", f"import sys\nprint([n for n in {names} if n in sys.modules])")
    assert result["stdout"] == "[]\n", result["stderr"]


@pytest.fixture(scope="module")
def installed(service):
    """The distributions of the built image, by normalised name."""
    image = ImageStore(service.images).get("python")
    for layer in map(Path, image.layers):
        for site in layer.glob("usr/local/lib/python3*/dist-packages"):
            return {normalized(found.name): found for found in distributions(path=[str(site)])}
    raise AssertionError("the python image has no libraries")


def test_every_listed_library_is_installed(installed):
    names = {normalized(line) for line in wanted(REPO / "runners/python")}
    assert names <= set(installed)


def test_licences_are_those_that_the_packages_declare(installed):
    documented = {normalized(name): licence for name, licence in documented_licences().items()}
    assert set(documented) == set(installed)
    wrong = {name: said for name, found in installed.items() if (said := _differs(found, documented[name]))}
    assert wrong == {}


def _differs(found: Distribution, documented: str) -> str | None:
    """Return what the package declares if that is not the documented licence, else None."""
    declared = found.metadata["License-Expression"]
    if declared is not None:
        return declared if declared != documented else None
    classifiers = [text for text in found.metadata.get_all("Classifier", []) if text.startswith("License")]
    text = " ".join((found.metadata["License"] or "", *classifiers))
    family = {"PSF-2.0": "Python Software Foundation", "Apache-2.0": "Apache", "MPL-2.0": "MPL-2.0"}.get(
        documented, re.split("[- ]", documented)[0]
    )
    # The text of a licence does not always name it: then the classifier does.
    return None if family in text else text[:200]
