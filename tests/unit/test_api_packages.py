"""The packages that the service and a plan permit: PACKAGES, PACKAGES_FILE and `package_patterns`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.errors import ApiError
from api.keys.plans import load_plans
from api.packages.patterns_file import MAX_FILE_BYTES, load_patterns
from api.packages.policy import PackageRules
from config.settings import Settings, SettingsError

FILE = """
pip = ["requests", "numpy>=1.20,<3", "types-*"]
npm = ["@types/*", "lodash@^4"]
go = ["github.com/google/*"]
cargo = ["serde"]
"""


@pytest.fixture
def load(tmp_path):
    def load(text, mode="approved"):
        path = tmp_path / "packages.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return PackageRules.of(Settings(packages=mode, packages_file=path))

    return load


@pytest.fixture
def plan(tmp_path):
    def plan(text):
        path = tmp_path / "plans.toml"
        path.write_text("[p]\nrate_per_minute = 1\nburst = 1\n" + text)
        return load_plans(Settings(plans_file=path)).get("p")

    return plan


def refused(rules, language, *texts, plan=None):
    with pytest.raises(ApiError) as error:
        rules.permit(language, texts, plan)
    found = error.value.error
    assert error.value.status == 400
    assert found.param is None or found.message.startswith(f"{found.param}: ")
    return found.code, found.param, found.message


def test_packages_are_off_by_default_and_the_message_names_the_setting():
    rules = PackageRules.of(Settings())
    assert rules.permit("bash", (), None) == ()
    code, param, message = refused(rules, "python", "requests")
    assert (code, param) == ("package_not_allowed", "packages.0")
    assert "PACKAGES is off" in message


def test_the_form_is_checked_whatever_is_permitted():
    for mode in ("off", "any"):
        rules = PackageRules(mode)
        assert refused(rules, "python", "x", "-r y")[:2] == ("invalid_package", "packages.1")
        assert refused(rules, "php", "x")[:2] == ("not_supported", "packages")
        assert refused(rules, "python", *["x"] * 33)[:2] == ("too_many", "packages")


def test_any_permits_every_package_in_the_order_of_the_request():
    rules = PackageRules("any")
    assert rules.permit("typescript", ["zod", "@types/node@22"], None) == ("zod@latest", "@types/node@22")


@pytest.mark.parametrize(
    ("language", "text", "result"),
    [
        ("python", "Requests==2.32.3", "requests==2.32.3"),
        ("python", "numpy", "numpy<3,>=1.20"),
        ("python", "types_requests", "types-requests"),
        ("bun", "@types/node", "@types/node@latest"),
        ("deno", "lodash", "lodash@^4"),
        ("go", "github.com/google/uuid", "github.com/google/uuid@latest"),
        ("rust", "serde@1", "serde@1"),
    ],
)
def test_approved_packages_get_the_bound_of_their_pattern(load, language, text, result):
    assert load(FILE).permit(language, [text], None) == (result,)


@pytest.mark.parametrize(
    ("language", "text", "near"),
    [
        ("python", "reqests", "permitted: requests"),
        ("python", "numpy==1.19.0", "permitted: numpy>=1.20,<3"),
        ("python", "zzzzzz", None),
        ("node", "lodahs", "permitted: lodash@^4"),
        ("node", "requests", None),
        ("rust", "serdes", "permitted: serde"),
    ],
)
def test_others_are_refused_with_near_ones_that_are_permitted(load, language, text, near):
    code, param, message = refused(load(FILE), language, text)
    assert (code, param) == ("package_not_allowed", "packages.0")
    assert message.endswith(near) if near else "permitted:" not in message
    assert "PACKAGES_FILE" in message


def test_the_plan_of_a_key_narrows_what_the_service_permits(load, plan):
    narrow = plan('[p.package_patterns]\npip = ["numpy<2"]\n')
    rules = load(FILE)
    assert rules.permit("python", ["numpy"], narrow) == ("numpy<2,<3,>=1.20",)
    assert refused(rules, "python", "requests", plan=narrow)[2].startswith("packages.0: the plan of this key (p)")
    assert refused(rules, "node", "lodash", plan=narrow)[0] == "package_not_allowed"
    message = refused(rules, "rust", "serde", plan=plan("package_patterns = {}\n"))[2]
    assert message == "packages.0: the plan of this key (p) permits no packages"
    assert rules.permit("rust", ["serde"], plan("")) == ("serde@*",)
    assert PackageRules("any").permit("python", ["numpy"], narrow) == ("numpy<2",)
    assert refused(PackageRules("off"), "python", "numpy", plan=narrow)[1] == "packages.0"
    assert replace(narrow, package_patterns=None).package_patterns is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pip = x\n", r"packages\.toml is not TOML: .*line 1"),
        (b"\xff", "not TOML"),
        ('pip = "requests"', r"packages\.toml: pip: must be a list of strings"),
        ("pip = [1]", r"packages\.toml: pip\.0: must be a list of strings"),
        ('gem = ["rails"]', r"packages\.toml: gem: there is no such ecosystem; known are pip, npm, go, cargo"),
        ('pip = ["ok", "--pre"]', r"packages\.toml: pip\.1: is not a name"),
        ('npm = ["x@next"]', r"npm\.0: must not have a tag"),
        ('cargo = ["*x"]', r"cargo\.0: "),
        (b"#" * (MAX_FILE_BYTES + 1), "larger than"),
    ],
)
def test_a_wrong_file_is_refused_by_its_entry(load, text, words):
    for mode in ("approved", "off"):
        with pytest.raises(SettingsError, match=words) as error:
            load(text, mode)
        assert str(error.value).startswith("PACKAGES_FILE: ")


def test_a_file_that_is_not_there_or_not_named(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_patterns(Settings(packages_file=tmp_path / "x"))
    with pytest.raises(SettingsError, match="needs PACKAGES_FILE"):
        load_patterns(Settings(packages="approved"))


def test_a_wrong_pattern_of_a_plan_is_refused_by_its_key(plan):
    with pytest.raises(SettingsError, match=r"p\.package_patterns\.pip\.0: must not be empty"):
        plan('[p.package_patterns]\npip = [""]\n')
    with pytest.raises(SettingsError, match=r"p\.package_patterns"):
        plan("package_patterns = [1]\n")


def test_keys_that_anybody_may_have_get_no_packages_by_default():
    plans = load_plans(Settings())
    for name in ("free", "anonymous"):
        for rules in (PackageRules("any"), PackageRules("approved", plans.get("free").package_patterns)):
            assert refused(rules, "python", "requests", plan=plans.get(name))[0] == "package_not_allowed"
    assert PackageRules("any").permit("python", ["requests"], plans.get("pro")) == ("requests",)
