"""The modules of an image, and the names that are near to a wrong one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import Limits
from sandbox.hints.derive import hints_of
from sandbox.hints.facts import HintFacts
from sandbox.hints.modules import MAX_NAMES, available_modules
from sandbox.hints.near import near_names, sorted_by_nearness
from sandbox.images import Image

LIMITS = Limits.resolve({})
TREE = {
    "python": (
        "usr/lib/python3.13/json/__init__.py", "usr/lib/python3.13/_private.py", "usr/lib/python3.13/csv.py",
        "usr/lib/python3.13/lib-dynload/zoneinfo.cpython-313-x86_64-linux-gnu.so",
        "usr/local/lib/python3.13/dist-packages/sklearn/__init__.py",
        "usr/local/lib/python3.13/dist-packages/numpy/__init__.py",
        "usr/local/lib/python3.13/dist-packages/requests/__init__.py",
        "usr/local/lib/python3.13/dist-packages/scikit_learn-1.7.dist-info/METADATA",
        "usr/lib/python3.13/README.txt",
    ),
    "ruby": ("usr/lib/ruby/3.3.0/csv.rb", "usr/lib/ruby/gems/3.3.0/gems/net-imap-0.4.9/x", "usr/lib/x86_64-linux-gnu/ruby/3.3.0/date_core.so"),
    "go": ("usr/share/go-1.24/src/encoding/json/x.go", "usr/share/go-1.24/src/fmt/x.go", "usr/share/go-1.24/src/cmd/go/x.go", "usr/share/go-1.24/src/make.bash"),
    "bash": ("usr/bin/grep", "usr/bin/awk"),
}  # fmt: skip
#: (language, the missing name, those that are near)
NEAR = [
    ("python", "requets", ["requests"]),
    ("python", "scikit_learn", ["sklearn"]),
    ("python", "Numpy", ["numpy"]),
    ("python", "numpy.nothing", ["numpy"]),
    ("python", "colorama", []),
    ("python", "../../etc", []),
    ("node", "fss", []),
    ("node", "https-module", ["https", "http"]),
    ("deno", "https-module", ["https", "http"]),
    ("ruby", "cvs", []),
    ("ruby", "net-imaps", ["net-imap"]),
    ("go", "encoding/jsn", ["encoding/json"]),
    ("bash", "grepp", ["grep"]),
]
OUTPUT = {
    "python": "ModuleNotFoundError: No module named '{}'\n",
    "node": "Error: Cannot find module '{}'\n",
    "deno": 'error: Relative import path "{}" not prefixed with\n',
    "ruby": "cannot load such file -- {} (LoadError)\n",
    "go": "main.go:3:8: package {} is not in std (x)\n",
    "bash": "main.sh: line 1: {}: command not found\n",
}


@pytest.fixture
def image(tmp_path):
    def image(language, layers=2):
        paths = [tmp_path / f"layer{n}" for n in range(layers)]
        for number, path in enumerate(TREE.get(language, ())):
            file = paths[number % layers] / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
        return Image(language, f"sha256:{tmp_path}", tuple(map(str, paths)))

    return image


def test_modules_of_python(image):
    found = available_modules(image("python"), "python")
    assert {"json", "csv", "zoneinfo", "sklearn", "numpy", "requests", "sys"} <= found
    assert not {"_private", "scikit_learn-1", "README", "dist-packages", "lib-dynload"} & found


def test_modules_of_go_are_directories_of_two_levels(image):
    assert available_modules(image("go"), "go") == {"encoding", "encoding/json", "fmt"}


def test_libraries_of_ruby_and_its_gems(image):
    assert {"csv", "net-imap", "date_core"} <= available_modules(image("ruby"), "ruby")


def test_an_image_without_layers_has_no_known_modules():
    assert available_modules(Image("python", "sha256:x", ()), "python") == frozenset()


def test_layers_that_are_gone_are_no_error(tmp_path):
    assert "sys" in available_modules(Image("python", "sha256:y", (str(tmp_path / "gone"),)), "python")


@pytest.mark.parametrize(("language", "name", "near"), NEAR)
def test_the_modules_that_are_near(image, language, name, near):
    output = OUTPUT[language].format(name)
    is_compiled = language == "go"
    facts = HintFacts(
        language,
        "failed",
        LIMITS,
        stderr="" if is_compiled else output,
        compiler_output=output if is_compiled else None,
        image=image(language),
    )
    (hint,) = hints_of(facts)
    assert (hint["code"], hint["name"], hint["near"]) == ("module_not_found", name, near)
    assert all(each in hint["message"] for each in near)


@given(st.text(max_size=200), st.lists(st.text(max_size=60), max_size=20))
def test_any_name_has_at_most_three_near_it(name, known):
    found = near_names(name, set(known), synonyms=True)
    assert len(found) <= 3
    assert set(found) <= set(known)


@given(st.text(max_size=100), st.lists(st.text(min_size=1, max_size=60), unique=True, max_size=20))
def test_no_file_is_lost_or_invented(path, files):
    assert sorted(sorted_by_nearness(path, files)) == sorted(files)


def test_many_names_take_no_time():
    known = {f"module{n}" for n in range(MAX_NAMES)}
    began = time.process_time()
    near_names("modul9999x", known)
    assert time.process_time() - began < 2
