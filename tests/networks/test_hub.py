"""Where the hub cannot be reached, the weights that were kept are used at once, and the settings are put back."""

import pytest
from huggingface_hub import constants

from selfreg.networks import hub


@pytest.mark.parametrize(("reachable", "offline"), [(True, False), (False, True)])
def test_libraries_are_offline_while_the_hub_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, reachable: bool, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(hub, "_reachable", lambda _: reachable)
    with hub.without_waiting("timm:resnet18"):
        assert offline == constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
