"""Two gloo processes do what one process does on the joint batch, and no weight leaves a parameter unused."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from regulation.small import Small
from selfreg.regulation import MultiExit, SelfRegulation

VARIANTS = ("authors", "distill", "feature", "verified")
TERMS = ("segmentation", "classification", "local_presence", "sr_f", "sr_l")


def settings() -> Iterator[tuple[dict[str, Any], float]]:
    """(options of SelfRegulation, progress): every variant, every weight at 0, all of them at 0, and warm-up."""
    for variant in VARIANTS:
        yield {"variant": variant}, 1.0
    for variant in ("distill", "feature"):
        yield {"variant": variant}, 0.0
        for term in TERMS:
            yield {"variant": variant, f"{term}_weight": 0.0}, 1.0
    yield {f"{term}_weight": 0.0 for term in TERMS}, 1.0


def model_and_batch(features: bool) -> tuple[MultiExit, Tensor, Tensor]:
    torch.manual_seed(0)
    model = MultiExit(Small(), 3, features=features, image_size=(32, 32)).train()
    model.exits.eval()  # batch norm sees one process's half of the batch; everything else is exact
    images = torch.randn(4, 3, 32, 32)
    labels = torch.randint(0, 3, (4, 32, 32))
    labels[:2].clamp_(max=1)  # the first process has two of three classes
    labels[:, :5] = 255
    labels[0] = 255  # the first process has less than half of the valid pixels and of the known images
    return model, images, labels


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    given = {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in given.values()), [n for n, g in given.items() if g is None]
    return {name: gradient.clone() for name, gradient in given.items() if gradient is not None}


def worker(rank: int, port: int, failures: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        for options, progress in settings():
            check(rank, options, progress)
    except BaseException as error:
        failures.put(f"process {rank}, {options}, progress {progress}: {error!r}")
        raise
    finally:
        dist.destroy_process_group()


def check(rank: int, options: dict[str, Any], progress: float) -> None:
    model, images, labels = model_and_batch(options.get("variant") == "feature")
    objective = SelfRegulation(**options)
    torch.autograd.backward(objective(model(images), labels, progress).total)
    expected = gradients(model)

    model, _, _ = model_and_batch(options.get("variant") == "feature")
    parallel = DistributedDataParallel(model)
    mine = slice(2 * rank, 2 * rank + 2)
    for _ in range(3):  # an unused parameter raises at the second iteration
        parallel.zero_grad(set_to_none=True)
        torch.autograd.backward(objective(parallel(images[mine]), labels[mine], progress).total)
        for name, gradient in gradients(parallel).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one_with_any_weight_at_zero_and_in_warm_up() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # a server that has imported this module, torch included, forks the two processes
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([worker.__module__])
    failures = context.SimpleQueue()
    processes = [context.Process(target=worker, args=(rank, port, failures)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=240)
    found = [] if failures.empty() else [failures.get()]
    assert found == []
    assert [process.exitcode for process in processes] == [0, 0]
