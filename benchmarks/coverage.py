"""How often the 95 % intervals of a study hold the truth, by number of seeds and by what makes the noise.

    python benchmarks/coverage.py

Studies are simulated: the difference that a seed shows is an effect of the drawn images, common to all seeds, one of
the seed, and one of seed and image together, all normal; the truth is 0. `NOISE` has the standard deviation of each.
"""

from __future__ import annotations

import argparse

import numpy as np

from selfreg.evaluation.bootstrap import draw_resamples
from selfreg.evaluation.scores import Floats
from selfreg.study.intervals import paired_difference

NOISE = {"seeds alone": (0.0, 1.0, 0.0), "images alone": (1.0, 0.0, 0.0), "both alike": (1.0, 1.0, 0.5)}


def covered(
    seeds: int, noise: tuple[float, float, float], images: int, studies: int, bootstrap: int
) -> tuple[float, float]:
    """Share of simulated studies whose interval holds 0, and the median width."""
    of_images, of_seeds, of_both = noise
    weights = np.vstack([np.ones((1, images)), draw_resamples(images, bootstrap, 0)]) / images
    generator = np.random.default_rng(seeds)
    held, widths = 0, []
    for _ in range(studies):
        common = of_images * images**0.5 * generator.standard_normal(images)
        arm: dict[int, Floats] = {}
        for seed in range(seeds):
            own = of_both * images**0.5 * generator.standard_normal(images)
            arm[seed] = weights @ (common + own + of_seeds * generator.standard_normal())
        found = paired_difference(arm, {seed: np.zeros(bootstrap + 1) for seed in arm})
        if found is None:
            raise RuntimeError("a study without a difference")
        held += found.low <= 0 <= found.high
        widths.append(found.high - found.low)
    return held / studies, float(np.median(widths))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--bootstrap", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{'noise':<14}{'seeds':>6}{'held':>8}{'median width':>14}")
    for name, noise in NOISE.items():
        for seeds in (1, 2, 3, 5, 10):
            share, width = covered(seeds, noise, arguments.images, arguments.studies, arguments.bootstrap)
            print(f"{name:<14}{seeds:>6}{share:>8.1%}{width:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
