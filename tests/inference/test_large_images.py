"""Images that are too large for a network at once: memory, and the seams between tiles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from selfreg.inference import Predictor

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Strided(nn.Module):
    """Works at a stride of 32, as encoders do, and looks no more than 32 pixels beyond each of its places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 8, stride=8), nn.ReLU())
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.interpolate(self.head(self.encoder(image)), scale_factor=32, mode="nearest")


@pytest.mark.parametrize("tile", [128, 150, 200, 256, 333])
def test_tiles_have_no_seams_where_the_network_looks_no_further_than_the_margin(tile: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (390, 517, 3)).astype(np.uint8)
    network = Strided()
    whole, tiled = Predictor(network, MEAN, STD)(image), Predictor(network, MEAN, STD, tile=tile)(image)
    assert len(np.unique(whole)) > 1
    np.testing.assert_array_equal(tiled, whole)


MEASURE = """
import json, resource, sys
from pathlib import Path
import numpy as np
import torch
from selfreg.data.labels import voc_palette
from selfreg.inference.predict import predict_images
from selfreg.inference.predictor import Predictor
sys.path.insert(0, sys.argv[2])
from test_large_images import MEAN, STD, Strided

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.set_num_threads(1)
folder = Path(sys.argv[1])
predictor = Predictor(Strided(), MEAN, STD, tile=256)
predict_images(predictor, [folder / "small.png"], folder / "out", voc_palette(), overlay=True)
# the largest memory from here on, without that of the imports, where the system can forget it
reset = Path("/proc/self/clear_refs")
if reset.exists():
    reset.write_text("5")
before = peak()
predict_images(predictor, [folder / "large.png"], folder / "out", voc_palette(), overlay=True)
print(json.dumps([before, peak()]))
"""


@pytest.mark.slow
def test_a_large_image_takes_few_bytes_for_each_of_its_pixels(tmp_path: Path) -> None:
    height, width = 4500, 5000  # larger than what is handed out at once
    Image.new("RGB", (300, 300), (9, 9, 9)).save(tmp_path / "small.png")
    Image.effect_noise((width // 10, height // 10), 80).convert("RGB").resize((width, height), 0).save(
        tmp_path / "large.png", compress_level=1
    )
    command = [sys.executable, "-c", MEASURE, str(tmp_path), str(Path(__file__).parent)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    before, after = json.loads(ended.stdout)
    # Pillow holds 4 bytes of a pixel while the array, 3 bytes, is filled; the class map takes 1; the rest are tiles
    assert after - before < 9 * height * width
    with Image.open(tmp_path / "out" / "large.png") as mask:
        assert mask.size == (width, height)
