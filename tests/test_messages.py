"""Exceptions on one line, and names that cannot change what a terminal shows."""

import ast
from pathlib import Path

import pytest
import torch

import selfreg
from selfreg.config import load_config
from selfreg.messages import one_line, printable, raised_in
from selfreg.opening import open_training_split
from selfreg.training.loaders import training_loader
from selfreg.training.preparation import describe
from tiny import write_config

SOURCE = Path(selfreg.__file__).parent


def test_a_message_of_several_lines_becomes_one() -> None:
    assert one_line(ValueError("wrong:\n   a\n\n   b ")) == "wrong: a b"
    assert one_line(ValueError("wrong:\n   a"), first=True) == "wrong:"


def test_without_a_message_the_type_is_named() -> None:
    assert one_line(EOFError()) == "EOFError"
    assert one_line("") == ""


def test_the_traceback_of_another_process_gives_its_message() -> None:
    text = 'Caught ValueError in worker 0.\nTraceback (most recent call last):\n  File "x.py"\nValueError: a.png: gone'
    assert one_line(text) == "a.png: gone"


def test_an_endless_message_of_a_library_is_cut() -> None:
    assert len(one_line(RuntimeError("key " * 10_000))) <= 600
    assert len(one_line("key " * 10_000)) > 30_000


@pytest.mark.parametrize(
    "evil", ["\x1b]8;;http://x\x07", "\x9b31m", "\r", "\u202e", "\udcff", "\u2028", "\x00", "\n", "\t"]
)
def test_what_a_terminal_would_obey_is_escaped(evil: str) -> None:
    assert printable(f"a{evil}b").isprintable()
    assert one_line(ValueError(f"{evil}b")).isprintable()


@pytest.mark.parametrize("name", ["Straße", "道路", "naïve café", "\u0646\u0645\u06cc\u200c\u062e"])
def test_names_of_every_script_stay(name: str) -> None:
    assert printable(name) == name


def test_where_an_exception_was_raised_is_told_by_the_place_not_by_its_text() -> None:
    with pytest.raises(ValueError) as caught:
        torch.nn.BatchNorm2d(2)(torch.zeros(1, 2, 1, 1))
    assert raised_in(caught.value, "_verify_batch_size")
    with pytest.raises(ValueError) as caught:
        raise ValueError("Expected more than 1 value per channel when training")
    assert not raised_in(caught.value, "_verify_batch_size")


def test_no_exception_is_brought_to_one_line_elsewhere_or_told_apart_by_its_text() -> None:
    """`str(error)` may be passed on whole, and nothing else may be done to it."""
    # gloo, CUDA graphs and tifffile raise plain errors from code that is not Python
    training = {"training/processes.py", "training/compiling.py"}
    allowed = {"messages.py", "termination.py", "data/bands.py", *training}
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).as_posix() in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            owner = node.value if isinstance(node, ast.Attribute) else None
            right = node.comparators[0] if isinstance(node, ast.Compare) else None
            for place in (owner, right):
                if isinstance(place, ast.Call) and ast.unparse(place) == "str(error)":
                    assert ast.unparse(node) == "str(error).replace", f"{path}: {ast.unparse(node)}"


def test_no_module_needs_posix_when_it_is_imported() -> None:
    posix = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not posix & set(names), path


@pytest.mark.slow
def test_loading_processes_can_be_spawned_as_on_windows(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, training={"workers": 1}))
    source = open_training_split(config)
    loader = training_loader(config, source, describe(config, source))
    loader.multiprocessing_context = "spawn"
    assert next(iter(loader))["image"].shape == (4, 3, 64, 64)
