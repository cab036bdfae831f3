"""Pretrained weights from a hub, without a long wait where the hub cannot be reached."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse
from urllib.request import getproxies

SECONDS = 4.0
"""How long the hub has to accept a connection."""


@contextmanager
def without_waiting(spec: str) -> Iterator[None]:
    """Let libraries use the weights that they have kept, at once, where the hub cannot be reached.

    Their own retries take most of a minute. Behind a proxy nothing is tried beforehand.

    Args:
        spec: The network, as in `build_network`.
    """
    from huggingface_hub import constants

    hub = urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname or "huggingface.co"
    host = "download.pytorch.org" if spec.startswith("torchvision:") else hub
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not (getproxies() or _reachable(host))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(host: str) -> bool:
    try:
        with socket.create_connection((host, 443), timeout=SECONDS):
            return True
    except OSError:
        return False
