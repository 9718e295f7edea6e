"""What the agent does about the program's processes, where it needs no sandbox."""

import pytest


@pytest.fixture
def program(fresh_agent):
    from agent import program

    return program


def test_nothing_is_left_of_an_interpreter_that_was_ended_while_it_started(program, tmp_path):
    folder = tmp_path / ".hold"
    folder.mkdir(mode=0o700)
    (folder / "main.rb").write_text("\n")
    program.clear_hold(str(folder))
    assert not folder.exists()


def test_an_interpreter_that_had_begun_to_wait_has_left_nothing_already(program, tmp_path):
    program.clear_hold(str(tmp_path / ".hold"))
    assert list(tmp_path.iterdir()) == []
