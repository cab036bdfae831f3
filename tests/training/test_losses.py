"""Losses of the own output against independent computations, with void, weights and nothing valid."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from selfreg.config import TrainingConfig, parse_config
from selfreg.config.training import LOSSES
from selfreg.networks import build_network
from selfreg.training.losses import OwnLoss, own_loss_of
from selfreg.training.task import SegmentationTask
from tiny import TINY

K = 5


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, K, 12, 16, generator=generator)
    labels = torch.randint(0, K - 1, (2, 12, 16), generator=generator)  # the last class does not occur
    labels[torch.rand(2, 12, 16, generator=generator) < 0.3] = 255
    return logits, labels


def loss_named(loss: Any, **options: Any) -> OwnLoss:
    return own_loss_of(TrainingConfig.model_validate({"loss": loss, **options}))


def probabilities_of_labels(logits: Tensor, labels: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(valid pixels,) the probability of each pixel's class, and the class; by numpy in float64."""
    scores = logits.double().numpy().transpose(0, 2, 3, 1)
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    valid = labels.numpy() != 255
    classes = labels.numpy()[valid]
    return shares[valid][np.arange(len(classes)), classes], classes


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])])
def test_cross_entropy_is_that_of_torch(smoothing: float, weights: Tensor | None) -> None:
    logits, labels = batch()
    found = loss_named("cross_entropy", label_smoothing=smoothing)(logits, labels, class_weights=weights)
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(found, expected)


def test_focal_is_the_mean_of_its_formula_over_valid_pixels() -> None:
    logits, labels = batch()
    shares, classes = probabilities_of_labels(logits, labels)
    pixels = -((1 - shares) ** 2) * np.log(shares)
    assert float(loss_named("focal")(logits, labels)) == pytest.approx(pixels.mean(), rel=1e-5)
    weights = np.array([1.0, 2.0, 0.5, 3.0, 1.0])
    weighted = (weights[classes] * pixels).sum() / weights[classes].sum()
    found = loss_named("focal")(logits, labels, class_weights=torch.tensor(weights))
    assert float(found) == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("margin", [0.0, 6.0])
def test_ohem_is_the_mean_over_hard_pixels_and_over_a_sixteenth_at_least(margin: float) -> None:
    logits, labels = batch()
    logits = logits / 3 + margin * F.one_hot(labels.where(labels != 255, 0), K).permute(0, 3, 1, 2)
    shares, _ = probabilities_of_labels(logits, labels)
    hard, least = int((shares < 0.7).sum()), labels.numel() // 16
    assert (hard > least) == (margin == 0)
    kept = np.sort(-np.log(shares))[::-1][: max(hard, least)]
    assert float(loss_named("ohem")(logits, labels)) == pytest.approx(kept.mean(), rel=1e-4)


def test_dice_is_one_minus_twice_the_overlap_over_the_sum() -> None:
    logits, labels = batch()
    shares, valid = logits.softmax(1), labels != 255
    terms = []
    for index in range(K):
        truth, share = (labels == index)[valid].float(), shares[:, index][valid]
        terms.append(1 - 2 * (truth * share).sum() / (truth.sum() + share.sum()) if truth.any() else torch.tensor(0.0))
    torch.testing.assert_close(loss_named("dice")(logits, labels), torch.stack(terms).mean())


def test_lovasz_is_the_jaccard_loss_of_a_decided_map() -> None:
    _, labels = batch()
    decided = torch.randint(0, K, labels.shape, generator=torch.Generator().manual_seed(1))
    logits = 200.0 * F.one_hot(decided, K).permute(0, 3, 1, 2)
    valid = labels != 255
    jaccard = [
        1
        - ((decided == index) & (labels == index) & valid).sum()
        / (((decided == index) | (labels == index)) & valid).sum()
        for index in range(K)
        if (labels == index).any()
    ]
    torch.testing.assert_close(loss_named("lovasz")(logits, labels), torch.stack(jaccard).mean())


def test_a_mapping_is_the_weighted_sum() -> None:
    logits, labels = batch()
    parts = [loss_named(name)(logits, labels) for name in ("cross_entropy", "dice")]
    found = loss_named({"cross_entropy": 0.5, "dice": 2})(logits, labels)
    torch.testing.assert_close(found, 0.5 * parts[0] + 2 * parts[1])


@pytest.mark.parametrize("name", LOSSES)
def test_void_pixels_have_neither_loss_nor_gradient(name: str) -> None:
    logits, labels = batch()
    loss = loss_named(name)
    void = (labels == 255)[:, None].expand_as(logits)
    other = logits.masked_fill(void, 7.0).requires_grad_()
    found = loss(other, labels)
    torch.testing.assert_close(found.detach(), loss(logits, labels))
    found.backward()  # type: ignore[no-untyped-call]
    assert other.grad is not None
    assert not other.grad[void].any()
    assert other.grad[~void].any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_nothing_is_valid_the_loss_is_zero_with_a_graph(name: str, dtype: torch.dtype) -> None:
    logits = torch.randn(2, K, 6, 8, dtype=dtype, requires_grad=True)
    loss = loss_named(name)(logits, torch.full((2, 12, 16), 255), class_weights=torch.ones(K))
    assert float(loss.detach()) == 0
    assert loss.dtype == torch.float32
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ["cross_entropy", "ohem", "focal"])
def test_pixels_without_confidence_do_not_count(name: str) -> None:
    logits, labels = batch()
    sure = torch.zeros(labels.shape)
    sure[:, :6] = 0.5
    half = labels.clone()
    half[:, 6:] = 255
    loss = loss_named(name, label_smoothing=0.1 if name == "cross_entropy" else 0.0)
    if name == "ohem":
        logits = logits / 100  # all pixels are hard
    torch.testing.assert_close(loss(logits, labels, confidence=sure), loss(logits, half))


@pytest.mark.parametrize("arm", ["base", "mea", "full"])
def test_the_own_output_has_this_loss_in_every_arm_and_the_exits_keep_theirs(arm: str) -> None:
    def segmentation(**training: Any) -> float:
        content = {**TINY, "method": {"arm": arm, "warm_up": 0.0}, "training": {**TINY["training"], **training}}
        config = parse_config(content, origin="test")
        torch.manual_seed(0)
        network = build_network(config.network.name, K, **config.network.options)
        task = SegmentationTask(config, network, K, total_steps=1).train()
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        labels = torch.randint(0, K, (2, 64, 64), generator=torch.Generator().manual_seed(2))
        torch.manual_seed(0)
        outputs = task.model(images)
        own.append(outputs if arm == "base" else outputs.class_maps[-1])
        torch.manual_seed(0)
        return float(task.loss_of({"image": images, "mask": labels}, 0.5)[1]["segmentation"].detach()) - float(
            loss_named(training.get("loss", "cross_entropy"))(own[-1], labels).detach()
        )

    own: list[Tensor] = []
    assert segmentation(loss={"dice": 3, "focal": 1}) == pytest.approx(segmentation(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss": "crossentropy"}, "unknown loss 'crossentropy'"),
        ({"loss": {"dice": 0}}, "weight of dice"),
        ({"loss": {}}, "give at least one"),
        ({"loss": "dice", "label_smoothing": 0.1}, "label_smoothing needs cross_entropy"),
        ({"class_weights": "equal"}, "none, balanced, a list"),
        ({"class_weights": [1, -1]}, "not negative"),
        ({"class_weights": {"car": "much"}}, "must be numbers"),
        ({"class_weights": [0, 0]}, "not all 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig.model_validate(training)
