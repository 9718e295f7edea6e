"""What programs ordinarily do, in every language: each sample runs as it would for a user."""

from __future__ import annotations

import hashlib

import pytest

from tests.engines.programs import KINDS, LANGUAGES

CASES = [
    pytest.param(language, sample, id=f"{language}: {kind}")
    for language, module in LANGUAGES.items()
    for kind, sample in module.SAMPLES.items()
]


@pytest.mark.parametrize(("language", "sample"), CASES)
def test_sample(run, language, sample):
    result = run(language, sample.code, **sample.job)
    assert (result["exit_code"], result["stdout"]) == (sample.exit_code, sample.stdout), result["stderr"]
    if sample.stderr:
        assert all(piece in result["stderr"] for piece in sample.stderr), result["stderr"]
    else:
        assert result["stderr"] == ""
    found = {artifact["path"]: artifact["sha256"] for artifact in result["artifacts"]}
    assert found == {path: hashlib.sha256(data).hexdigest() for path, data in sample.outputs.items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_is_shown(language):
    assert set(LANGUAGES[language].SAMPLES) >= KINDS


def test_every_language_that_waits_is_compared_with_itself_started_anew(service):
    from sandbox.languages import Catalogue

    assert {language.id for language in Catalogue.load() if language.warm_mode != "none"} <= set(LANGUAGES)
