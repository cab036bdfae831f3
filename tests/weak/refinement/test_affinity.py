from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import Dataset

from selfreg.weak.refinement import AffinityNetwork, load_affinity, train_affinity, walk_within_boundaries
from selfreg.weak.refinement.affinity_training import affinity_loss, random_crop, seeds_on_grid
from selfreg.weak.refinement.paths import path
from weak.refinement.scores import wrong_share


class SmallBackbone(nn.Module):
    """Two stages, strides 2 and 4, with weights drawn from a seed and a batch norm and dropout that eval mode stops."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.Dropout(0.5))
            self.second = nn.Sequential(nn.ReLU(), nn.Conv2d(32, 8, 3, 2, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.first(images)
        return [first, self.second(first)]


class Halves(Dataset[tuple[Tensor, Tensor]]):
    """Images of two colours that meet at a column; seeds are uncertain ten pixels about it."""

    def __init__(self, length: int = 6, size: tuple[int, int] = (32, 48)) -> None:
        self.length, self.size = length, size

    def __len__(self) -> int:
        return self.length

    def column(self, index: int) -> int:
        return 16 + 3 * index

    def label(self, index: int) -> np.ndarray:
        label = np.zeros(self.size, dtype=np.uint8)
        label[:, self.column(index) :] = 1
        return label

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        seeds = torch.from_numpy(self.label(index))
        noise = torch.randn(3, *self.size, generator=torch.Generator().manual_seed(index))
        image = torch.tensor([[-1.0, 0.5, 0.0], [1.0, -0.5, 0.5]])[seeds.long()].permute(2, 0, 1) + 0.1 * noise
        seeds[:, self.column(index) - 5 : self.column(index) + 5] = 255
        return image, seeds


def train(epochs: int = 30, **options: Any) -> AffinityNetwork:
    options = {"crop_size": (32, 32), "batch_size": 3, "seed": 1, **options}
    return train_affinity(Halves(), SmallBackbone(), epochs=epochs, **options)


def plain_loss(logits: np.ndarray, seeds: np.ndarray, radius: float) -> float:
    """Pair by pair, each ordered pair counted, in probabilities."""
    groups: dict[str, list[float]] = {"foreground": [], "background": [], "across": []}
    number, height, width = seeds.shape
    for n, i, j, k, m in np.ndindex(number, height, width, height, width):
        if not 0 < np.hypot(k - i, m - j) < radius or 255 in (seeds[n, i, j], seeds[n, k, m]):
            continue
        on_path = [logits[n, i + a, j + b] for a, b in (path((k - i, m - j)) if k >= i else _reverse(k - i, m - j))]
        boundary = 1 / (1 + np.exp(-max(on_path)))
        if seeds[n, i, j] != seeds[n, k, m]:
            groups["across"].append(-np.log(boundary))
        else:
            groups["foreground" if seeds[n, i, j] else "background"].append(-np.log(1 - boundary))
    means = {name: float(np.mean(values)) if values else 0.0 for name, values in groups.items()}
    return means["foreground"] / 2 + means["background"] / 2 + means["across"]


def _reverse(down: int, right: int) -> list[tuple[int, int]]:
    return [(-a, -b) for a, b in path((-down, -right))]


@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([2.0, 4.0]))
@settings(max_examples=12, deadline=None)
def test_loss_equals_the_mean_over_pairs(seed: int, radius: float) -> None:
    generator = np.random.default_rng(seed)
    shape = (2, *generator.integers(1, 7, 2))
    seeds = generator.choice([0, 1, 2, 255], shape)
    logits = generator.normal(0, 2, shape)
    found = affinity_loss(torch.from_numpy(logits), torch.from_numpy(seeds), radius)
    assert float(found) == pytest.approx(plain_loss(logits, seeds, radius), abs=1e-5)


def test_only_the_strongest_boundary_of_a_path_learns() -> None:
    logits = torch.tensor([[[0.0, 0.5, 2.0, 0.1]]], requires_grad=True)
    affinity_loss(logits, torch.tensor([[[1, 255, 255, 2]]])).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 0].count_nonzero() == 1
    assert logits.grad[0, 0, 2] < 0


def test_certain_mistakes_cost_much_but_are_finite() -> None:
    loss = affinity_loss(torch.full((1, 1, 2), -500.0), torch.tensor([[[0, 1]]]))
    assert float(loss) == pytest.approx(500)


@pytest.fixture(scope="module")
def trained() -> AffinityNetwork:
    return train()


def test_training_finds_the_boundary_within_what_the_seeds_leave_open(trained: AffinityNetwork) -> None:
    network, images = trained, Halves()
    for index in range(len(images)):
        boundaries = network.boundaries(images[index][0])
        assert boundaries.shape == (8, 12)
        profile = boundaries.mean(0)
        true = images.column(index) * 11 / 47 - 0.5  # between the two pixels of the grid about the edge
        assert abs(int(profile.argmax()) - true) <= 1
        away = [column for column in range(12) if abs(column - true) > 2]
        assert profile.max() > 2 * profile[away].mean()


def test_walk_within_learned_boundaries_mends_scores(trained: AffinityNetwork) -> None:
    network, images = trained, Halves()
    image = images[3][0]
    position = torch.arange(48) - (images.column(3) + 4) + 0.5
    right = torch.sigmoid(position / 3).expand(32, 48)
    scores = torch.stack([1 - right, right])
    refined = walk_within_boundaries(scores, network.boundaries(image))
    assert wrong_share(refined, images.label(3)) < wrong_share(scores, images.label(3)) / 2


def test_training_is_the_same_for_the_same_seed_whatever_was_drawn_before() -> None:
    first = train(epochs=2).branch.state_dict()
    torch.rand(7)
    before = torch.random.get_rng_state()
    second = train(epochs=2).branch.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train(epochs=2, seed=2).branch.state_dict()
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_training_that_was_cut_off_goes_on_bit_for_bit() -> None:
    states: dict[int, dict[str, Any]] = {}
    whole = train(epochs=3, on_epoch=lambda epoch, state: states.update({epoch: state})).branch.state_dict()
    assert sorted(states) == [1, 2, 3]
    assert [len(states[epoch]["losses"]) for epoch in (1, 2, 3)] == [1, 2, 3]
    resumed = train(epochs=3, state=states[2]).branch.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    loaded = load_affinity(states[3], SmallBackbone())
    image = Halves()[0][0]
    assert torch.equal(loaded.boundaries(image), train(epochs=3, state=states[3]).boundaries(image))


def test_saved_states_can_be_read_safely(tmp_path: Any) -> None:
    kept: list[dict[str, Any]] = []
    train(epochs=1, on_epoch=lambda _, state: kept.append(state))
    torch.save(kept[0], tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    train(epochs=2, state=state)


def test_the_backbone_stays_as_it_was() -> None:
    backbone = SmallBackbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    network = train_affinity(Halves(), backbone, epochs=1, crop_size=(32, 32), batch_size=3)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert not network.train().backbone.training


def test_a_mirror_image_has_mirrored_boundaries() -> None:
    network, image = AffinityNetwork(SmallBackbone()).eval(), Halves()[1][0]
    torch.testing.assert_close(network.boundaries(image.flip(-1)), network.boundaries(image).flip(-1))


def test_timm_backbones_serve_and_the_grid_has_stride_four() -> None:
    backbone = timm.create_model("mobilenetv3_small_050", features_only=True)
    network = AffinityNetwork(backbone)
    assert len(network.branch.projections) == 5
    boundaries = network.boundaries(torch.rand(3, 65, 102))
    assert boundaries.shape == (17, 26)
    assert boundaries.min() >= 0
    assert boundaries.max() <= 1


def test_crops_keep_image_and_seeds_together_and_pad_uncertain() -> None:
    seeds = torch.arange(5 * 9, dtype=torch.uint8).view(5, 9)
    generator = torch.Generator().manual_seed(0)
    mirrored = set()
    for _ in range(20):
        image, crop = random_crop(seeds.float().expand(3, 5, 9), seeds, (7, 4), generator)
        assert image.shape == (3, 7, 4)
        assert torch.equal(image[1, :5], crop[:5].float())
        assert (crop[5:] == 255).all()
        mirrored.add(bool(crop[0, 0] > crop[0, 1]))
    assert mirrored == {True, False}


def test_seeds_of_the_grid_are_those_of_the_nearest_pixels() -> None:
    seeds = torch.arange(9)[None].expand(5, 9)
    assert seeds_on_grid(seeds, (2, 3)).tolist() == [[0, 4, 8], [0, 4, 8]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no images to train"):
        train_affinity(Halves(0), SmallBackbone())
    with pytest.raises(ValueError, match="must return a list of feature maps"):
        AffinityNetwork(nn.Conv2d(3, 4, 1))
    kept: list[dict[str, Any]] = []
    train(epochs=1, on_epoch=lambda _, state: kept.append(state))
    with pytest.raises(ValueError, match="2 epochs already, more than 1"):
        train(epochs=1, state={**kept[0], "epochs": 2})
    with pytest.raises(ValueError, match="does not belong to this backbone"):
        load_affinity(kept[0], timm.create_model("mobilenetv3_small_050", features_only=True))


def test_seeds_that_leave_a_wide_gap_about_every_boundary_are_refused() -> None:
    class Gaps(Halves):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            image, seeds = super().__getitem__(index)
            seeds[:, self.column(index) - 12 : self.column(index) + 12] = 255
            return image, seeds

    with pytest.raises(ValueError, match="nearer than 20 pixels, so that no boundary can be learned"):
        train_affinity(Gaps(), SmallBackbone(), epochs=1, crop_size=(32, 48))
