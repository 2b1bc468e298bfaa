"""In CI a skipped test is a failed one: a missing peer or tool must not pass unnoticed.

Elsewhere `pytest.importorskip("torch")` skips, and pytest's summary names the reason.
"""

import os

import pytest

CI = os.environ.get("CI") == "true"


def _refuse_skip(report):
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _refuse_skip((yield))
