"""How often intervals hold the truth, of a study and of all looks of a try together, and how often a try is wrong.

    python benchmarks/coverage.py

Studies are simulated: the difference that a seed shows is an effect of the drawn images, common to all seeds, one of
the seed, and one of seed and image together, all normal; the truth is 0. `NOISE` has the standard deviation of each.
The tries are those of `selfreg try`, with its rules for looking and stopping, but with such numbers for trainings.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np

from selfreg.evaluation.bootstrap import draw_resamples
from selfreg.evaluation.scores import Floats
from selfreg.study.intervals import paired_difference
from selfreg.trial.budget import Budget
from selfreg.trial.looks import MOST_PAIRS, Plan, error_of_look
from selfreg.trial.sequence import RELEVANT, Progress, conduct

NOISE = {
    "seeds alone": (0.0, 1.0, 0.0),
    "mostly seeds": (0.2, 1.0, 0.0),
    "images alone": (1.0, 0.0, 0.0),
    "both alike": (1.0, 1.0, 0.5),
}
PAIR_SECONDS = 100.0


class Simulation:
    """Draws the resampled differences of the seeds of a study."""

    def __init__(self, noise: tuple[float, float, float], images: int, bootstrap: int, seed: int) -> None:
        self.noise, self.images = noise, images
        self.weights = np.vstack([np.ones((1, images)), draw_resamples(images, bootstrap, 0)]) / images
        self.generator = np.random.default_rng(seed)

    def draw(self, seeds: int) -> dict[int, Floats]:
        """The differences of `seeds` seeds: the whole set of images, then its resamples."""
        of_images, of_seeds, of_both = self.noise
        common = of_images * self.images**0.5 * self.generator.standard_normal(self.images)
        arm: dict[int, Floats] = {}
        for seed in range(seeds):
            own = of_both * self.images**0.5 * self.generator.standard_normal(self.images)
            arm[seed] = self.weights @ (common + own + of_seeds * self.generator.standard_normal())
        return arm


def holds_truth(arm: Mapping[int, Floats], confidence: float = 0.95) -> tuple[bool, float]:
    """Whether the interval holds 0, and its width."""
    found = paired_difference(arm, {seed: np.zeros_like(values) for seed, values in arm.items()}, confidence=confidence)
    if found is None:
        raise RuntimeError("a study without a difference")
    return found.low <= 0 <= found.high, found.high - found.low


def covered(simulation: Simulation, seeds: int, studies: int) -> tuple[float, float]:
    """Share of simulated studies whose interval holds 0, and the median width."""
    found = [holds_truth(simulation.draw(seeds)) for _ in range(studies)]
    return float(np.mean([held for held, _ in found])), float(np.median([width for _, width in found]))


def covered_together(simulation: Simulation, planned: int, studies: int) -> tuple[float, float]:
    """Share of simulated tries of which every interval holds 0, and the median width of the last interval."""
    levels: dict[int, float] = {}
    for pairs in range(min(3, planned), planned + 1):
        levels[pairs] = error_of_look(levels, pairs, Plan().allowed(pairs, planned))
    held, widths = 0, []
    for _ in range(studies):
        arm = simulation.draw(planned)
        looks = [holds_truth({seed: arm[seed] for seed in range(n)}, 1 - level) for n, level in levels.items() if level]
        held += all(holds for holds, _ in looks)
        widths.append(looks[-1][1])
    return held / studies, float(np.median(widths))


class SimulatedTrainings:
    """Trainings that are numbers: `full` differs from two equal candidates for the base by `effect` in mIoU."""

    def __init__(self, effect: float, simulations: Mapping[str, Simulation], clock: list[float]) -> None:
        self.clock = clock
        self.miou = {arm: each.draw(MOST_PAIRS) for arm, each in simulations.items()}
        for values in self.miou["full"].values():
            values += effect
        self.done: set[tuple[str, int]] = set()

    def finished(self, arm: str, seed: int) -> bool:
        """Whether `train` was called."""
        return (arm, seed) in self.done

    def train(self, arm: str, seed: int) -> None:
        """Advance the clock."""
        self.clock[0] += PAIR_SECONDS / 2
        self.done.add((arm, seed))

    def scores(self, arm: str, seed: int) -> Mapping[str, Floats]:
        """The simulated mIoU."""
        return {"miou": 0.5 + self.miou[arm][seed]}


def verdicts(effect: float, spread: float, pairs: int, tries: int, bootstrap: int, *, search: bool) -> dict[str, float]:
    """Share of each finding among simulated tries whose budget suffices for `pairs` pairs."""
    candidates = ("base", "balanced") if search else ("base",)
    simulations = {
        arm: Simulation((0.3 * spread, spread, 0.3 * spread), 100, bootstrap, seed)
        for seed, arm in enumerate((*candidates, "full"))
    }
    counts: dict[str, int] = {}
    for _ in range(tries):
        clock, progress = [0.0], Progress()
        conduct(
            SimulatedTrainings(effect, simulations, clock),
            Budget((pairs + 0.5 * search) * PAIR_SECONDS, clock=lambda clock=clock: clock[0]),  # type: ignore[misc]
            progress,
            candidates=candidates,
            expected_pair=PAIR_SECONDS,
            reserve=0.0,
            keep=lambda _: None,
            tell=lambda _: None,
        )
        counts[progress.finding] = counts.get(progress.finding, 0) + 1
    return {finding: count / tries for finding, count in counts.items()}


def wrong_share(effect: float, found: Mapping[str, float]) -> float:
    """Share of verdicts that claim what is not true."""
    wrong = {"helps"} if effect <= 0 else set()
    wrong |= {"harms"} if effect >= 0 else set()
    wrong |= {"makes no difference that matters"} if abs(effect) >= RELEVANT else set()
    return sum(share for finding, share in found.items() if finding in wrong)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--bootstrap", type=int, default=200)
    arguments = parser.parse_args()
    print(f"studies\n{'noise':<14}{'seeds':>6}{'held':>8}{'median width':>14}")
    for name, noise in NOISE.items():
        for seeds in (1, 2, 3, 5, 10):
            simulation = Simulation(noise, arguments.images, arguments.bootstrap, seeds)
            share, width = covered(simulation, seeds, arguments.studies)
            print(f"{name:<14}{seeds:>6}{share:>8.1%}{width:>14.2f}", flush=True)
    print(f"\nall looks of a try\n{'noise':<14}{'pairs':>6}{'held':>8}{'last width':>14}")
    for name, noise in NOISE.items():
        for pairs in range(2, MOST_PAIRS + 1):
            simulation = Simulation(noise, arguments.images, arguments.bootstrap, pairs)
            share, width = covered_together(simulation, pairs, arguments.studies)
            print(f"{name:<14}{pairs:>6}{share:>8.1%}{width:>14.2f}", flush=True)
    print(f"\nverdicts of tries\n{'effect':>7}{'pairs':>6}{'base':>10}{'wrong':>8}  findings")
    for effect in (0.0, 0.03, -0.03):
        for pairs in (3, 5, 10):
            for search in (False, True):
                found = verdicts(effect, 0.01, pairs, arguments.tries, 20, search=search)
                shown = ", ".join(f"{finding} {share:.1%}" for finding, share in sorted(found.items()))
                base = "searched" if search else "given"
                print(f"{effect:>+7.2f}{pairs:>6}{base:>10}{wrong_share(effect, found):>8.1%}  {shown}", flush=True)


if __name__ == "__main__":
    main()
