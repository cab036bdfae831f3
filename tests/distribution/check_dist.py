"""Build the distribution, install its wheel into a clean environment, and run the command from there.

    python tests/distribution/check_dist.py             # newest versions of everything
    python tests/distribution/check_dist.py --lowest    # the lowest ones that pyproject.toml allows

Takes minutes and some gigabytes (torch), so it is no part of the suite: `make dist-check` runs both.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = (
    ("--version",),
    ("--help",),
    ("train", "--help"),
    ("taps", "timm:resnet18", "--num-classes", "9"),
    ("demo",),
    ("evaluate", "demo/best"),
)


def lowest_versions() -> list[str]:
    """A pip constraint for each requirement of pyproject.toml that names a lowest version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [requirement.replace(">=", "==") for requirement in project["dependencies"]]


def run(*words: str | Path, folder: Path) -> None:
    """Run a program in a folder, show it, and end with its output where it fails."""
    print("$", *words, flush=True)
    result = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)


def check(folder: Path, lowest: bool) -> None:
    """Build into `folder`, install into a clean environment there, and run every command of `COMMANDS`."""
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, folder=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    constraints = folder / "lowest.txt"
    constraints.write_text("\n".join(lowest_versions() if lowest else []), encoding="utf-8")
    python = folder / "venv" / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "--no-cache-dir", "--constraint", constraints, f"{wheel}[demo]")
    run(python, *install, folder=folder)
    run(python, "-m", "pip", "check", folder=folder)
    for words in COMMANDS:
        run(folder / "venv" / "bin" / "selfreg", *words, folder=folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lowest", action="store_true", help="install the lowest allowed versions")
    with tempfile.TemporaryDirectory(prefix="selfreg-dist-") as name:
        check(Path(name), parser.parse_args().lowest)
    print("the wheel installs and runs")
