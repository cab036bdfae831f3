"""`training.compile: graph`: forward pass, losses and backward pass, recorded once and replayed on a GPU."""

import gc
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from selfreg.messages import one_line
from selfreg.regulation import ExitOutputs, LossTerms

STEP_TENSORS = ("image", "mask", "tags", "confidence")
"""What a training step reads of a batch; the last two where the batch has them."""


class StepLosses(NamedTuple):
    """What a training step computes.

    Attributes:
        total: The loss, a scalar with its graph.
        terms: The terms of the objective; None in plain training.
        outputs: The outputs of all exits; None in plain training.
    """

    total: Tensor
    terms: LossTerms | None = None
    outputs: ExitOutputs | None = None

    def detach(self) -> "StepLosses":
        """The same values without their graph."""
        terms, outputs = self.terms, self.outputs
        if terms is not None:
            values = {name: value.detach() for name, value in terms.raw().items()}
            terms = LossTerms(**values, total=terms.total.detach(), weights=terms.weights, per_exit=terms.per_exit)
        if outputs is not None:
            outputs = ExitOutputs(
                _detached(outputs.class_maps),
                _detached(outputs.image_logits),
                _detached(outputs.features),
                None if outputs.own_map is None else outputs.own_map.detach(),
                None if outputs.network_loss is None else outputs.network_loss.detach(),
            )
        return StepLosses(self.total.detach(), terms, outputs)


def _detached(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors]


ComputeLosses = Callable[[dict[str, Tensor], float], StepLosses]
"""`compute(tensors, progress)`: the forward pass and the losses of a batch."""


class RecordedStep:
    """Computes the losses of a batch by CUDA graphs, whose launch costs the same however many kernels they have.

    A step of the regulated ResNet-50 launches about 1,000 small kernels, which can take a processor longer than the GPU
    needs to compute them. The first batch of a kind (shapes, progress) records it; until the next kind, it is replayed.
    Batches of another kind are computed as they are.

    Args:
        model: The module whose parameters take part.
        compute: The forward pass and the losses, without host reads. Its tensors have the shapes of a training batch.
    """

    def __init__(self, model: nn.Module, compute: ComputeLosses) -> None:
        self._model, self._compute = model, compute
        self._recorded: _Recorded | None = None

    def __call__(self, tensors: dict[str, Tensor], progress: float) -> StepLosses:
        """The losses of a batch. Values are overwritten by the next step.

        Raises:
            ValueError: If the step cannot be recorded.
        """
        if progress not in (0.0, 1.0):  # the weights of the terms change from step to step
            return self._compute(tensors, progress)
        if self._recorded is None or self._recorded.progress != progress:
            self._recorded = None
            gc.collect()  # frees the memory of the last recording, which must not happen during the next
            self._recorded = _Recorded(self._model, self._compute, tensors, progress)
        if not self._recorded.fits(tensors):
            return self._compute(tensors, progress)
        return self._recorded.losses(tensors)


class _Recorded(nn.Module):
    """The recorded step of one kind."""

    def __init__(self, model: nn.Module, compute: ComputeLosses, tensors: dict[str, Tensor], progress: float) -> None:
        super().__init__()
        self.model = model  # so that its parameters are found
        self.progress = progress
        self._compute = compute
        self._shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self._found: StepLosses | None = None
        # the nodes that collect gradients belong to the stream of their first use, which shall not be the recording's
        self._collecting = [
            parameter.expand_as(parameter).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
            for parameter in model.parameters()
            if parameter.requires_grad
        ]
        before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        generator = torch.cuda.get_rng_state()
        try:
            with torch.autocast(
                "cuda",
                dtype=torch.get_autocast_dtype("cuda"),
                enabled=torch.is_autocast_enabled("cuda"),
                cache_enabled=False,
            ):
                torch.cuda.make_graphed_callables(
                    self, tuple(tensor.clone() for tensor in tensors.values()), allow_unused_input=True
                )
        except torch.cuda.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"training.compile: the step cannot be recorded as a CUDA graph ({one_line(error)}); set it to none"
            ) from None
        # recording runs the batch several times: batch norm and dropout shall not notice
        for buffer, value in before:
            buffer.copy_(value)
        torch.cuda.set_rng_state(generator)

    def fits(self, tensors: dict[str, Tensor]) -> bool:
        """Whether a batch has the recorded names and shapes."""
        return self._shapes == {name: tensor.shape for name, tensor in tensors.items()}

    def forward(self, *tensors: Tensor) -> Tensor:
        """The total loss; replaced by the replay once it is recorded."""
        losses = self._compute(dict(zip(self._shapes, tensors, strict=True)), self.progress)
        self._found = losses.detach()  # of the last call, the recorded one: the replay writes into these tensors
        return losses.total

    def losses(self, tensors: dict[str, Tensor]) -> StepLosses:
        """Replay the step with a batch that fits."""
        total: Tensor = self(*(tensors[name] for name in self._shapes))
        assert self._found is not None
        return self._found._replace(total=total)
