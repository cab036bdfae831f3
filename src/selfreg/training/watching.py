"""Watching every exit: its terms in training, and its mIoU on the validation split."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from selfreg.evaluation import ConfusionMatrix
from selfreg.inference import Predictor
from selfreg.regulation import LossTerms, MultiExit


def exit_logs(terms: LossTerms, regulation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the values of every exit for the log, exits counted from 1.

    Args:
        terms: Of one step.
        regulation: Of `watch_regulation`.

    Returns:
        Scalars: `terms/segmentation_exit_1` and so on, `teacher_accuracy/sr_f`, `gate_open/sr_f_exit_2` and so on.
    """
    vectors = {f"terms/{name}": values for name, values in terms.per_exit.items()}
    logs: dict[str, Tensor] = {}
    for name, values in (vectors | dict(regulation)).items():
        if values.ndim == 0:
            logs[name] = values
        else:
            first = 2 if name.endswith("sr_f") else 1  # exit 1 is the teacher of SR-F
            logs |= {f"{name}_exit_{number}": value for number, value in enumerate(values.unbind(), first)}
    return logs


class ExitScores(nn.Module):
    """mIoU of every exit but the last on the validation split, each predicted as the network's own output is.

    Args:
        num_exits: Exits without the network's own output.
        num_classes: K.
    """

    def __init__(self, num_exits: int, num_classes: int) -> None:
        super().__init__()
        self.confusions = nn.ModuleList(ConfusionMatrix(num_classes) for _ in range(num_exits))

    def update(self, predictors: "ExitPredictors", images: Tensor, masks: Tensor) -> None:
        """Add normalised images (N, C, H, W) with masks (N, H, W), just predicted through `predictors.own`."""
        for confusion, predictor in zip(self.confusions, predictors.of_exits(), strict=True):
            confusion.update(predictor.class_maps(images), masks)  # type: ignore[operator]

    def compute(self) -> dict[str, Tensor]:
        """`val/miou_exit_1` and so on, and forget the split."""
        scores = {}
        for number, confusion in enumerate(self.confusions, 1):
            scores[f"val/miou_exit_{number}"] = confusion.compute()["miou"]  # type: ignore[operator]
            confusion.reset()  # type: ignore[operator]
        return scores


class ExitPredictors:
    """Predictors of all exits that share one forward pass: the others replay what the pass of `own` recorded.

    Args:
        model: The network with its exits.
        options: Of `Predictor`.
    """

    def __init__(self, model: MultiExit, **options: Any) -> None:
        self._recording = _Recording(model)
        self._options = options
        self.own = Predictor(self._recording, **options)

    def of_exits(self) -> Iterator[Predictor]:
        """Predictors of the exits, shallow to deep, for the images that `own` has predicted last."""
        passes = self._recording.passes
        for index in range(len(passes[0])):
            yield Predictor(_Replay([class_maps[index] for class_maps in passes]), **self._options)
        passes.clear()


class _Recording(nn.Module):
    """Gives the own output, and keeps the class maps of the other exits of every pass."""

    def __init__(self, model: MultiExit) -> None:
        super().__init__()
        self._model = [model]  # in a list, so that it is no part of this module
        self.passes: list[list[Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        outputs = self._model[0].exit_outputs(images)
        self.passes.append(outputs.class_maps[:-1])
        return outputs.logits


class _Replay(nn.Module):
    """Gives the class maps of one exit, pass by pass."""

    def __init__(self, class_maps: list[Tensor]) -> None:
        super().__init__()
        self._next = iter(class_maps)

    def forward(self, _images: Tensor) -> Tensor:
        return next(self._next)
