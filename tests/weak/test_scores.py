"""Scores: background, masks, confidence, and the way to disk and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfreg.weak.pseudo_masks import uncertain_to_void
from selfreg.weak.scores import Scores, class_map, confidence_map, load_scores, normalised, save_scores, with_background
from selfreg.weak.stages import restored


@given(st.integers(0, 3), st.floats(0.05, 0.9), st.integers(0, 1000))
def test_background_wins_exactly_where_no_activation_exceeds_the_threshold(
    count: int, threshold: float, seed: int
) -> None:
    values = torch.rand(count, 5, 6, generator=torch.Generator().manual_seed(seed))
    scores = with_background(Scores(list(range(1, count + 1)), values), (5, 6), 0, threshold)
    assert scores.classes == list(range(count + 1))
    assert torch.allclose(scores.values.sum(0), torch.ones(5, 6))
    best = values.amax(0) if count else torch.zeros(5, 6)
    assert np.array_equal(class_map(scores) == 0, (best <= threshold).numpy())


def test_without_a_background_class_an_image_without_tags_is_void() -> None:
    scores = with_background(Scores([], torch.zeros(0, 2, 2)), (8, 8), None, 0.3)
    assert (class_map(scores) == 255).all()
    assert (confidence_map(scores) == 0).all()


def test_without_a_background_class_the_activations_share_every_pixel() -> None:
    scores = with_background(Scores([0, 2], torch.tensor([[[0.0, 0.3]], [[0.0, 0.1]]])), (1, 2), None, 0.3)
    assert scores.classes == [0, 2]
    assert scores.values.flatten().tolist() == pytest.approx([0.5, 0.75, 0.5, 0.25])


def test_an_image_of_background_alone_is_certain() -> None:
    scores = with_background(Scores([], torch.zeros(0, 2, 2)), (8, 8), 0, 0.3)
    assert (class_map(scores) == 0).all()
    assert (confidence_map(scores) == 1).all()


def test_confidence_is_the_lead_over_the_second_best_and_little_of_it_means_void() -> None:
    values = normalised(torch.tensor([[[5.0, 3.0]], [[3.0, 4.0]], [[2.0, 3.0]]]))
    scores = Scores([0, 4, 7], values)
    assert class_map(scores).tolist() == [[0, 4]]
    confidence = confidence_map(scores)
    assert confidence[0].tolist() == pytest.approx([0.2, 0.1])
    assert uncertain_to_void(class_map(scores), confidence, 0.15).tolist() == [[0, 255]]


def test_scores_come_back_from_disk_to_a_255th(tmp_path: Path) -> None:
    values = torch.rand(2, 4, 5)
    save_scores(tmp_path / "a" / "b.npz", Scores([0, 9], values))
    classes, read = load_scores(tmp_path / "a" / "b.npz")
    assert classes == [0, 9]
    assert float((read - values).abs().max()) <= 0.5 / 255 + 1e-6
    save_scores(tmp_path / "none.npz", Scores([], torch.zeros(0, 4, 5)))
    assert load_scores(tmp_path / "none.npz").values.shape == (0, 4, 5)


def test_damaged_scores_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match=r"x\.npz: cannot be read .*: delete .* and start again"):
        load_scores(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "content",
    [
        {"a": np.zeros(3)},
        {"classes": np.zeros(1, np.uint8), "values": np.zeros(1, np.uint8)},
        {"classes": np.zeros(2, np.uint8), "values": np.zeros((1, 4, 4), np.uint8)},
        {"classes": np.zeros(1, np.uint8), "values": np.full((1, 4, 4), np.nan)},
        {"classes": np.array(["a"]), "values": np.zeros((1, 4, 4), np.uint8)},
    ],
)
def test_scores_of_another_shape_or_type_are_refused_by_name(tmp_path: Path, content: dict[str, Any]) -> None:
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(ValueError, match=r"x\.npz: cannot be read .*: delete .* and start again"):
        load_scores(tmp_path / "x.npz")


@pytest.mark.parametrize("state", [{}, {"a": 1}, [1], torch.zeros(2)])
def test_a_state_with_other_content_is_refused_by_name(tmp_path: Path, state: Any) -> None:
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt: cannot be read .*: delete .* and start again"):
        restored(tmp_path / "x.pt", lambda content: content["classifier"])
