"""How often real tests may be run again: the machine is shared, and much of what they see is about time.

Each that is says so at the end, with what it failed of the first time; it is a fault to be found, not noise. More
than a few fail the whole.
"""

from __future__ import annotations

import pytest

MOST = 3


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and len(_again(session.config)) > MOST:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = _again(config)
    if not reports:
        return
    terminalreporter.section("run again")
    for report in reports:
        terminalreporter.line(report.nodeid, bold=True)
        terminalreporter.line(report.longreprtext)
    if len(reports) > MOST:
        terminalreporter.line(f"{len(reports)} tests were run again, and no more than {MOST} may be", red=True)


def _again(config: pytest.Config) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("rerun", []) if reporter is not None else []
