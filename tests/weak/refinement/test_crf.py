import sys

import numpy as np
import pytest
import torch

from selfreg.weak.refinement import dense_crf
from weak.refinement.scores import random_case, two_halves, wrong_share


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    image, scores = random_case(0)
    with pytest.raises(ValueError, match=r"pip install 'selfreg\[crf\]'"):
        dense_crf(image, scores)


class TestWithTheLibrary:
    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("pydensecrf", reason="the extra crf is not installed")

    def test_without_iterations_scores_stay(self) -> None:
        image, scores = random_case(2, classes=3)
        torch.testing.assert_close(dense_crf(image, scores, iterations=0), scores, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("seed", range(6))
    def test_scores_stay_non_negative_of_sum_one(self, seed: int) -> None:
        image, scores = random_case(seed, largest=40)
        refined = dense_crf(np.flip(image, 0), scores)
        assert refined.shape == scores.shape
        assert refined.min() >= 0
        torch.testing.assert_close(refined.sum(0), torch.ones(scores.shape[1:]))

    def test_order_of_the_classes_does_not_matter(self) -> None:
        image, scores = random_case(5, largest=30, classes=4)
        order = [2, 0, 3, 1]
        torch.testing.assert_close(dense_crf(image, scores[order]), dense_crf(image, scores)[order], atol=1e-4, rtol=0)

    def test_scores_move_to_the_edge_of_the_image(self) -> None:
        image, label, scores = two_halves()
        assert wrong_share(scores, label) > 0.04
        assert wrong_share(dense_crf(image, scores), label) < 0.005

    def test_mean_field_of_a_flat_image_smooths_a_speck_away(self) -> None:
        image = np.full((20, 20, 3), 90, dtype=np.uint8)
        scores = torch.full((2, 20, 20), 0.3)
        scores[0] = 0.7
        scores[:, 10, 10] = torch.tensor([0.2, 0.8])
        refined = dense_crf(image, scores)
        assert (refined[0] > 0.9).all()

    def test_what_does_not_fit_is_refused(self) -> None:
        image, scores = random_case(1)
        with pytest.raises(ValueError, match="resize the scores to the image first"):
            dense_crf(np.zeros((50, 50, 3), dtype=np.uint8), scores)
        with pytest.raises(ValueError, match="iterations are -1"):
            dense_crf(image, scores, iterations=-1)
