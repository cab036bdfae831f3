"""The pages as a site: built strictly, complete without a network, equations without a script."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in site.glob("*.html")}
    assert not list(site.glob("**/*.py"))


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]*src=[\"']?(https?:|//)", text)
        fetched += re.findall(r"<link[^>]*rel=[\"']?(?:stylesheet|preconnect)[^>]*href=[\"']?(https?:|//)", text)
        assert not fetched, page.name


def test_equations_are_mathml(site: Path) -> None:
    text = (site / "method.html").read_text(encoding="utf-8")
    written = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    assert text.count('display="block"') == written.count("```math")
    assert text.count('display="inline"') > 20
    assert "arithmatex" not in text


def test_an_equation_that_cannot_be_converted_stops_the_build() -> None:
    spec = importlib.util.spec_from_file_location("mathml", ROOT / "docs" / "hooks" / "mathml.py")
    assert spec is not None
    assert spec.loader is not None
    hook: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    assert "<msub>" in hook.on_page_content(r'<span class="arithmatex">\(x_i\)</span>')
    with pytest.raises(ValueError, match="no MathML for a part of"):
        hook.on_page_content(r'<span class="arithmatex">\(\nosuchthing x\)</span>')
