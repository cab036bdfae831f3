"""What the wheel and the source distribution hold; `check_dist.py` installs and runs them."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def names_in_source() -> set[str]:
    files = {path.relative_to(ROOT / "src") for path in (ROOT / "src" / "selfreg").rglob("*") if path.is_file()}
    return {path.as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_module_and_template_and_nothing_else(dist: Path) -> None:
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = [name.split(".dist-info/")[1] for name in wheel.namelist() if ".dist-info/" in name]
    assert names == names_in_source()
    assert {"selfreg/py.typed", "selfreg/report/templates/page.html.j2"} <= names
    assert "licenses/LICENSE" in about
    assert "entry_points.txt" in about


def test_the_source_distribution_holds_what_is_needed_to_build_test_and_document(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in names_in_source()} <= names
    needed = {"pyproject.toml", "constraints.txt", "Makefile", "mkdocs.yml", "LICENSE", "README.md", "CHANGELOG.md"}
    assert needed | {"tests/contract.py", "docs/method.md", "docs/hooks/mathml.py", "configs/scenes.yaml"} <= names
    assert not [name for name in names if name.startswith(("benchmarks", "site", "runs", ".venv"))]
