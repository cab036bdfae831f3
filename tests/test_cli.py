"""The command as a whole."""

import subprocess
import sys

import pytest

from tiny import selfreg


def test_importing_selfreg_loads_neither_lightning_nor_transformers() -> None:
    code = "import selfreg, sys; assert not {'lightning', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_loads_no_torch() -> None:
    code = "import sys; sys.argv = ['selfreg', '--help']\nfrom selfreg.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("--version") == 0
    assert capsys.readouterr().out.startswith("selfreg 0.")


@pytest.mark.parametrize("network", ["smp:FPN/tu-mobilenetv3_small_050", "torchvision:lraspp_mobilenet_v3_large"])
def test_taps_prints_a_table(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("taps", network, "--image-size", "64", "96") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["tap", "stride", "channels", "layout"]
    assert len(lines) >= 4
