"""What every test relies on."""

import os

import pytest

import processes

LONGEST = {
    *("test_gateway.py", "test_faults.py", "test_export.py", "test_examples.py", "test_study.py", "test_try.py"),
    *("test_pseudo.py", "test_distributed.py"),
}
"""Files with tests of many seconds."""


def pytest_configure(config: pytest.Config) -> None:
    """Let all processes of tests share one server of warm commands, which imports while they collect."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        processes.share_server()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, so that at the end of a run nobody waits for one of them."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    # the key that seals kept results is the user's own; the tests, and the commands that they start, get another
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # imported here, so that the process that only hands out tests need not wait for it
    import torch

    # two tests run side by side on two cores; more threads only get into each other's way
    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the malformed inputs that were tried, whichever processes tried them."""

    def count(outcome: str) -> int:
        reports = terminalreporter.stats.get(outcome, [])
        return sum(getattr(report, "when", "") == "call" and _is_malformed_case(report.nodeid) for report in reports)

    handled, failed = count("passed"), count("failed")
    if handled + failed:
        verdict = "all handled" if not failed else f"{failed} NOT handled"
        terminalreporter.write_line(f"malformed inputs: {handled + failed} cases, {verdict}")


def _is_malformed_case(nodeid: str) -> bool:
    # the fuzzing draws its own inputs and is not counted
    return "malformed/" in nodeid and "test_fuzz" not in nodeid
