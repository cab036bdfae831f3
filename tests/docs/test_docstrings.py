"""The examples in the docstrings of public names run, and print what they say."""

import doctest
from importlib import import_module

import pytest

WITH_EXAMPLES = [
    "selfreg.checking.check_data",
    "selfreg.evaluation.ConfusionMatrix",
    "selfreg.evaluation.FailureRates",
    "selfreg.networks.build_network",
    "selfreg.regulation.MultiExit",
    "selfreg.regulation.SelfRegulation",
    "selfreg.regulation.find_taps",
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_example_of_a_docstring_runs(name: str) -> None:
    module_name, _, attribute = name.rpartition(".")
    public = getattr(import_module(module_name), attribute)
    examples = doctest.DocTestFinder(recurse=False).find(public, attribute, globs={})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert [example for test in examples for example in test.examples], f"{name} has no example"
    report: list[str] = []
    assert sum(runner.run(test, out=report.append).failed for test in examples) == 0, "".join(report)
