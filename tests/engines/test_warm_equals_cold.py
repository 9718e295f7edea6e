"""The same program, in the waiting interpreter and in one started anew: nothing it can see may differ."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines.programs import LANGUAGES

CASES = [
    pytest.param(language, code, fields, id=f"{language}: {name}")
    for language, module in LANGUAGES.items()
    for name, (code, fields) in module.WARM_AND_COLD.items()
]
COMPARED = ("status", "exit_code", "signal", "stdout", "stderr")


@pytest.mark.parametrize(("language", "code", "fields"), CASES)
def test_warm_equals_cold(run, language, code, fields):
    fields = dict(fields)
    compared = fields.pop("compare", COMPARED)
    with ThreadPoolExecutor(2) as both:
        cold, warm = both.map(lambda started: run(language, code, interpreter=started, **fields), ("cold", "warm"))
    assert {name: warm[name] for name in compared} == {name: cold[name] for name in compared}


def test_nothing_is_left_of_an_interpreter_that_is_ended_at_any_moment_of_its_start(run):
    """It is ended where a program asks for one started anew; on a busy machine it has not come far by then."""
    code = "p Dir.children('/tmp')"
    jobs = [lambda: run("ruby", code, interpreter="cold")["stdout"]] * 24
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda job: job(), jobs)) == ["[]\n"] * 24


@pytest.mark.parametrize("interpreter", ["warm", "cold"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_errors_name_the_users_file_and_line_and_nothing_of_ours(run, language, interpreter):
    error = LANGUAGES[language].SAMPLES["error"]
    result = run(language, error.code, interpreter=interpreter)
    assert all(piece in result["stderr"] for piece in error.stderr), result["stderr"]
    assert "runyard" not in result["stdout"] + result["stderr"]
    assert "hold" not in result["stdout"] + result["stderr"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_entry_that_looks_like_an_option_is_a_file(run, language):
    name, code = LANGUAGES[language].AN_OPTION_FOR_A_NAME
    assert run(language, None, entrypoint=name, files={name: code}, args=["x"])["stdout"] == "dash\n"
