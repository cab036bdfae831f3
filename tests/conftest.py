"""What every test relies on."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # two tests run side by side on two cores; more threads only get into each other's way
    torch.set_num_threads(1)
