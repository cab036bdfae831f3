"""The class map in what networks return."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from selfreg.regulation import ExitOutputs, main_output

LOGITS = torch.randn(2, 3, 4, 5)


@pytest.mark.parametrize(
    "result",
    [
        LOGITS,
        {"out": LOGITS, "aux": torch.zeros(2, 3, 4, 5)},
        SimpleNamespace(logits=LOGITS, loss=None),
        (LOGITS, torch.zeros(2, 3, 4, 5)),
        [LOGITS],
        ({"out": LOGITS},),
    ],
)
def test_the_class_map_is_found(result: object) -> None:
    assert main_output(result) is LOGITS


def test_mask_classification_gives_its_semantic_inference() -> None:
    classes, masks = torch.randn(1, 2, 4), torch.randn(1, 2, 3, 5)
    logits = main_output(SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks))
    scores = torch.zeros(1, 3, 3, 5)
    for query in range(2):
        for k in range(3):
            scores[0, k] += classes[0, query].softmax(0)[k] * masks[0, query].sigmoid()
    torch.testing.assert_close(logits, scores.log())
    torch.testing.assert_close(logits.softmax(1), scores / scores.sum(1, keepdim=True))


@pytest.mark.parametrize("result", [None, {"logit": LOGITS}, (), "text", SimpleNamespace(logits=3)])
def test_what_holds_no_class_map_is_refused(result: object) -> None:
    with pytest.raises(ValueError, match="cannot find the class map"):
        main_output(result)


@pytest.mark.parametrize("tensor", [torch.zeros(2, 3), torch.zeros(2, 4, 5)])
def test_a_tensor_of_another_shape_is_refused(tensor: Tensor) -> None:
    with pytest.raises(ValueError, match=r"must have shape \(N, K, h, w\)"):
        main_output(tensor)


def test_exit_outputs_hold_no_features_unless_given() -> None:
    assert ExitOutputs([LOGITS], [LOGITS.mean((2, 3))]).features == []
