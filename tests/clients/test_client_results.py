"""`runyard exec` shows hints and results of single-use runs, on the real service."""

from __future__ import annotations

import json

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"


def test_a_hint_is_a_message_and_quiet_leaves_it_out(runyard):
    code, out, err = runyard("exec", "-r", "node", "require('lodash')")
    assert (code, out) == (1, b"")
    told = [line for line in err.decode().splitlines() if line.startswith("runyard: ")]
    assert any("lodash" in line for line in told), err
    assert b"runyard: " not in runyard("exec", "-q", "-r", "node", "require('lodash')")[2]


def test_a_program_without_a_failure_has_no_hint(runyard):
    assert runyard("exec", "-r", "python", "print(1)") == (0, b"1\n", b"")


def test_results_are_printed_in_order_with_the_output(runyard):
    code, out, err = runyard("exec", "-r", "python", "--results", "display('a')\nprint('b')\n6 * 7")
    assert (code, out) == (0, b"'a'\nb\n42\n"), err


def test_without_the_flag_a_value_is_not_printed(runyard):
    assert runyard("exec", "-r", "python", "6 * 7") == (0, b"", b"")


def test_an_exception_is_on_stderr_and_its_escapes_are_shown(runyard):
    code, out, err = runyard("exec", "-r", "node", "--results", "throw new TypeError('\\x1b[31mred')")
    assert (code, out) == (1, b"")
    assert b"TypeError" in err
    assert b"\x1b" not in err


def test_a_result_cannot_control_the_terminal(runyard):
    code, out, _ = runyard(
        "exec", "-r", "python", "--results", "class A:\n def __repr__(self): return '\\x1b]0;x\\x07'\nA()"
    )
    assert code == 0
    assert b"\x1b" not in out
    assert b"]0;x" in out


def test_a_figure_is_saved_under_a_name_that_is_free_and_through_no_link(runyard, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/figure-1.png").symlink_to(tmp_path / "elsewhere")
    code, _, err = runyard("exec", "-r", "python", "--results", "--save", "figures", FIGURE)
    assert code == 0, err
    assert b"saved figures/figure-2.png" in err
    assert (tmp_path / "figures/figure-2.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "elsewhere").exists()


def test_a_figure_without_a_folder_is_reported(runyard):
    code, _, err = runyard("exec", "-r", "python", "--results", FIGURE)
    assert (code, b"--save DIR" in err) == (0, True)


def test_json_has_the_results_and_prints_nothing_else(runyard):
    code, out, err = runyard("exec", "-r", "python", "--results", "--json", "6 * 7")
    assert (code, err) == (0, b"")
    assert json.loads(out)["results"][0]["text"] == "42"


def test_a_folder_for_figures_needs_results(runyard):
    code, _, err = runyard("exec", "-r", "python", "--save", "figures", "1")
    assert (code, b"--results" in err) == (2, True)


def test_a_language_without_results_is_refused(runyard):
    code, _, err = runyard("exec", "-r", "bash", "--results", "echo 1")
    assert (code, b"results" in err) == (125, True)
