"""What self-regulation costs in training: step time and peak memory beside the plain network, paired in one run.

    python benchmarks/overhead.py --quick            # DeepLabV3+ ResNet-50, 512 x 512, K = 19: three minutes
    python benchmarks/overhead.py                    # and OCRNet, K = 19, 21 and 150, more rounds
    python benchmarks/overhead.py --parts            # where the time goes: each exit, each part of the objective
    python benchmarks/overhead.py --launches         # how many operations a step launches: counted, no GPU needed
    python benchmarks/overhead.py --launches --compile losses   # and how many kernels the compiled losses are
    python benchmarks/overhead.py --taps encoder@3 encoder@4 --networks smp:DeepLabV3Plus/tu-mobilenetv2_100
    python benchmarks/overhead.py --device cuda --amp --channels-last --compile network losses   # or --compile graph

Arms: base, the plain network; mea, its exits with the multi-exit loss alone; sr, mea with both self-regulation losses;
full, sr with local presence; separable, full with `exits="separable"`; authors, the peer: `exits="authors"` with losses
at label resolution, as in the authors' demonstration code. The other arms have the default exits, `dense`. A step is
forward, loss, backward and SGD with momentum. The arms take turns; every ratio is the median over rounds of the ratio
within a round. A turn is one step on a CPU; on a GPU ten, without waiting for one before the next is queued, as in a
training that reads nothing back. CPU time counts what all threads of this process spent, so that other work on the
machine disturbs it less. Memory is the peak of bytes that tensors hold at once in one step, beyond weights and
optimiser: on a CPU from the allocator's own record (oneDNN's scratch space is not in it), on a GPU from
`max_memory_allocated`.

With `--launches`, the operations of forward, loss and backward are counted as PyTorch dispatches them, without views,
allocations and scalars of the CPU: on a GPU each is about one kernel, whose launch costs the same however little it
computes. With `--compile losses` the kernels that inductor generates for the losses, forward and backward, are counted
instead; on a CPU three of them check the range of the labels, which is not done on a GPU.

On a GPU, what `--compile network` and `losses` compile is replayed as CUDA graphs, as by `training.compile`. `--compile
graph` compiles nothing: forward, loss and backward are recorded as they are and replayed, so that what is left of the
time is nearly the GPU's own. Memory is then that of the recording, which is not in the column.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch._inductor.metrics
import torch._inductor.utils
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from selfreg.networks import build_network
from selfreg.regulation import (
    ExitOutputs,
    LossTerms,
    MultiExit,
    SelfRegulation,
    main_output,
    segmentation_loss,
)
from selfreg.regulation.options import DEFAULT_EXITS, ExitForm
from selfreg.training.compiling import begin_compiled_batch, compiled

Step = Callable[[], None]
CPU_ACTIVITY = torch.profiler.ProfilerActivity.CPU
_ALONE: dict[str, Any] = {"sr_f_weight": 0.0, "sr_l_weight": 0.0, "local_presence_weight": 0.0}
"""The multi-exit loss and nothing else."""
_OBJECTIVES: dict[str, dict[str, Any]] = {"mea": _ALONE, "sr": {"local_presence_weight": 0.0}, "full": {}}
"""What the arms with this library's exits give to `SelfRegulation`."""
_FORMS: dict[str, ExitForm] = {"separable": "separable", "authors": "authors"}
_ARMS = (*_OBJECTIVES, *_FORMS)
_NETWORKS = ["smp:DeepLabV3Plus/resnet50", "ocrnet/resnet50"]
_ALLOCATIONS = ("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided")
_NO_KERNEL = (*_ALLOCATIONS, "aten::scalar_tensor")
"""Operations that only allocate, or make a number on the CPU."""


class Bench:
    """One network, its arms, one batch."""

    def __init__(self, spec: str, num_classes: int, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = torch.device(arguments.device)
        size, batch = arguments.size, arguments.batch
        torch._dynamo.reset()  # or another number of classes would be compiled as one of many
        torch.manual_seed(0)
        network = build_network(spec, num_classes).to(self.device)
        self.images = torch.randn(batch, 3, size, size, device=self.device)
        if arguments.channels_last:
            network = network.to(memory_format=torch.channels_last)
            self.images = self.images.to(memory_format=torch.channels_last)
        blocks = torch.randint(0, num_classes, (batch, size // 16, size // 16), device=self.device)
        self.labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
        self.labels[:, : size // 16] = 255
        wrapped = {
            arm: MultiExit(copy.deepcopy(network), num_classes, arguments.taps, exits=_FORMS.get(arm, DEFAULT_EXITS))
            for arm in arguments.arms
        }
        objectives = {
            **{arm: SelfRegulation(**options) for arm, options in _OBJECTIVES.items()},
            "separable": SelfRegulation(),
            "authors": SelfRegulation(
                "authors", exit_resolution="label", sr_f_weight=1.0, sr_l_weight=1.0, local_presence_weight=0.0
            ),
        }
        self.models: dict[str, nn.Module] = {"base": network, **wrapped}
        self.losses = {"base": self._plain(network)}
        self.losses |= {arm: self._regulated(model, objectives[arm]) for arm, model in wrapped.items()}
        self.steps = {arm: self._step(self.models[arm], loss) for arm, loss in self.losses.items()}

    def _plain(self, network: nn.Module) -> Callable[[], Tensor]:
        network.train()
        run, loss = self._compiled("network", network), self._compiled("losses", segmentation_loss)
        return self._recorded(network, lambda images, labels: loss(main_output(run(images)), labels))

    def _regulated(self, model: MultiExit, objective: SelfRegulation) -> Callable[[], Tensor]:
        model.train()
        run, losses = self._compiled("network", model), self._compiled("losses", objective)
        return self._recorded(model, lambda images, labels: losses(run(images), labels, progress=1.0).total)

    def _compiled(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return compiled(function, self.device) if part in self.arguments.compile else function

    def _recorded(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        """Record forward, loss and backward as CUDA graphs where that is asked for."""
        if "graph" not in self.arguments.compile:
            return lambda: loss(self.images, self.labels)
        recorded: Any = torch.cuda.make_graphed_callables(
            Recorded(model, loss, self.arguments.amp),
            (self.images.clone(), self.labels.clone()),
            allow_unused_input=True,
        )
        return lambda: recorded(self.images, self.labels)

    def _step(self, model: nn.Module, loss: Callable[[], Tensor]) -> Step:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            if set(self.arguments.compile) & {"network", "losses"}:
                begin_compiled_batch(self.device)
            with self.precision():
                value = loss()
            torch.autograd.backward(value)
            optimizer.step()

        return step

    def precision(self) -> torch.autocast:
        """What forward and loss run in: bfloat16 where that is asked for."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.arguments.amp)


class Recorded(nn.Module):
    """Forward pass and loss as a module, which is what PyTorch records."""

    def __init__(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], amp: bool) -> None:
        super().__init__()
        self.model, self.loss, self.amp = model, loss, amp

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch."""
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.amp, cache_enabled=False):
            return self.loss(images, labels)


# --- measuring -------------------------------------------------------------------------------------------------------


def peak_bytes(step: Step, device: torch.device) -> int:
    """The most bytes that tensors held at once during a step, beyond what they held before it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return int(torch.cuda.max_memory_allocated() - before)
    with silent_stderr(), torch.profiler.profile(activities=[CPU_ACTIVITY], profile_memory=True) as record:
        step()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep the profiler's own log, which Python cannot reach, off the screen."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def seconds(step: Step, device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds of one step: the mean of a turn."""
    steps = 10 if device.type == "cuda" else 1
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    synchronize(device)
    return (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps


def synchronize(device: torch.device) -> None:
    """Wait for a GPU's queue; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(bench: Bench, rounds: int) -> None:
    """Measure the arms in turns and print the table."""
    device = bench.device
    for step in bench.steps.values():  # momentum and lazily made buffers exist before memory is measured
        step()
    memory = {arm: peak_bytes(step, device) for arm, step in bench.steps.items()}
    if device.type == "cuda":  # convolutions have chosen their algorithms, and the clock is up
        for step in bench.steps.values():
            seconds(step, device)
    times: dict[str, list[tuple[float, float]]] = {arm: [] for arm in bench.steps}
    for index in range(rounds):
        arms = list(bench.steps)
        for arm in arms[index % len(arms) :] + arms[: index % len(arms)]:
            times[arm].append(seconds(bench.steps[arm], device))
    print(f"{'arm':<11}{'step':>9}{'x base':>9}{'CPU time':>10}{'x base':>9}{'memory':>12}{'x base':>9}")
    for arm, measured in times.items():
        wall, cpu = (statistics.median(row[column] for row in measured) for column in (0, 1))
        against = list(zip(measured, times["base"], strict=True))
        wall_ratio, cpu_ratio = (statistics.median(m[column] / b[column] for m, b in against) for column in (0, 1))
        print(
            f"{arm:<11}{1000 * wall:>7.1f} ms{wall_ratio:>8.3f}{1000 * cpu:>8.1f} ms{cpu_ratio:>8.3f}"
            f"{memory[arm] / 2**20:>8.0f} MiB{memory[arm] / memory['base']:>9.3f}",
            flush=True,
        )


def parts(bench: Bench, rounds: int) -> None:
    """Print the time of each exit and of each part of the objective, forward and backward, alone.

    CPU time on a CPU, the clock on a GPU.
    """
    clock = 0 if bench.device.type == "cuda" else 1
    model = bench.models["full"]
    assert isinstance(model, MultiExit)
    stages: list[Tensor] = []
    handles = [exit_.register_forward_pre_hook(lambda _m, inputs: stages.append(inputs[0])) for exit_ in model.exits]
    with bench.precision():
        outputs: ExitOutputs = model(bench.images)
    for handle in handles:
        handle.remove()
    given = [stage.detach().requires_grad_() for stage in stages]
    own_map = None if outputs.own_map is None else outputs.own_map.detach().requires_grad_()
    held = ExitOutputs(
        [class_map.detach().requires_grad_() for class_map in outputs.class_maps],
        [logits.detach().requires_grad_() for logits in outputs.image_logits],
        own_map=own_map,
    )

    def exit_step(index: int) -> Step:
        def step() -> None:
            with bench.precision():
                class_map, logits, _ = model.exits[index](given[index])
            torch.autograd.backward([class_map, logits], [torch.ones_like(class_map), torch.ones_like(logits)])

        return step

    def objective_step(objective: SelfRegulation, given_outputs: ExitOutputs = held) -> Step:
        def step() -> None:
            with bench.precision():
                terms: LossTerms = objective(given_outputs, bench.labels, progress=1.0)
            torch.autograd.backward(terms.total)

        return step

    steps = {f"exit {tap.name} (stride {tap.stride})": exit_step(index) for index, tap in enumerate(model.taps)}
    steps["own output: image logits"] = exit_step(len(model.taps))
    own = SelfRegulation(classification_weight=0.0, **_ALONE)
    own_only = ExitOutputs(held.class_maps[-1:], held.image_logits[-1:])
    steps["objective: own segmentation (base)"] = lambda: torch.autograd.backward(
        own(own_only, bench.labels, 1.0).total
    )
    steps["objective: MEA"] = objective_step(SelfRegulation(**_ALONE))
    steps["objective: MEA + SR-F + SR-L"] = objective_step(SelfRegulation(local_presence_weight=0.0))
    steps["objective: MEA + local presence"] = objective_step(SelfRegulation(sr_f_weight=0.0, sr_l_weight=0.0))
    steps["objective: full, distill"] = objective_step(SelfRegulation("distill"))
    steps["objective: full, verified"] = objective_step(SelfRegulation("verified"))
    base = min(seconds(bench.steps["base"], bench.device)[clock] for _ in range(3))
    print(f"base step {1000 * base:.1f} ms")
    for name, step in steps.items():
        step()
        alone = min(seconds(step, bench.device)[clock] for _ in range(max(rounds, 3)))
        print(f"{name:<40}{1000 * alone:>8.2f} ms{alone / base:>9.2%}", flush=True)


class LaunchCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that compute: views, allocations and scalars made on the CPU are left out."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view and func._schema.name not in _NO_KERNEL
        return func(*args, **(kwargs or {}))


def launches(bench: Bench) -> None:
    """Print how many operations forward, loss and backward of each arm launch; gradients are None before."""
    compiled = bench.arguments.compile
    count = generated_kernels if compiled else dispatched_operations
    base = 0
    print(f"{'arm':<11}{'kernels of the losses' if compiled else 'operations':>22}{'added':>8}")
    for arm, loss in bench.losses.items():
        bench.models[arm].zero_grad(set_to_none=True)
        with bench.precision():
            counted = count(loss)
        base = base or counted
        print(f"{arm:<11}{counted:>22}{counted - base:>8}", flush=True)


def dispatched_operations(loss: Callable[[], Tensor]) -> int:
    """Operations of forward, loss and backward."""
    with LaunchCount() as counted:  # type: ignore[no-untyped-call]
        torch.autograd.backward(loss())
    return int(counted.count)


def generated_kernels(loss: Callable[[], Tensor]) -> int:
    """Kernels that inductor generates for the compiled part of forward and backward, which it has not seen before."""
    torch._dynamo.reset()
    with torch._inductor.utils.fresh_inductor_cache():  # what it has cached it would not generate, nor count
        torch._inductor.metrics.reset()
        torch.autograd.backward(loss())
    count: int = torch._inductor.metrics.generated_kernel_count
    return count


@contextlib.contextmanager
def heading(spec: str, num_classes: int, arguments: argparse.Namespace) -> Iterator[None]:
    """Print what is measured, and how long it took."""
    start = time.perf_counter()
    print(f"\n{spec}, K = {num_classes}, {arguments.batch} x {arguments.size} x {arguments.size}, {arguments.device}")
    yield
    print(f"({time.perf_counter() - start:.0f} s)")


def main() -> None:
    """Parse the command line and print one table per network and number of classes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one network, K = 19, three rounds")
    parser.add_argument("--parts", action="store_true", help="where the time goes, instead of the comparison")
    parser.add_argument("--launches", action="store_true", help="count operations, with K = 19, and measure nothing")
    parser.add_argument("--networks", nargs="+", help=f"[{' '.join(_NETWORKS)}; with --launches the first]")
    parser.add_argument("--classes", nargs="+", type=int, default=[19, 21, 150])
    parser.add_argument("--arms", nargs="+", choices=_ARMS, default=_ARMS, help="beside base [all]")
    parser.add_argument("--taps", nargs="+", default="auto", help="modules that carry the exits, shallow to deep")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None, help="of torch, on a CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", nargs="+", choices=("network", "losses", "graph"), default=(), help="in every arm")
    arguments = parser.parse_args()
    if "graph" in arguments.compile and (arguments.device == "cpu" or arguments.launches or len(arguments.compile) > 1):
        parser.error("--compile graph needs a GPU, compiles nothing else, and has no launches to count")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    networks = arguments.networks or (_NETWORKS[:1] if arguments.launches else _NETWORKS)
    if arguments.parts:
        arguments.arms = ["full"]
    if arguments.quick or arguments.launches:
        arguments.classes, arguments.rounds = [19], 3
    if arguments.quick:
        networks = networks[:1]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    for spec in networks:
        for num_classes in arguments.classes:
            with heading(spec, num_classes, arguments):
                bench = Bench(spec, num_classes, arguments)
                if arguments.launches:
                    launches(bench)
                else:
                    (parts if arguments.parts else compare)(bench, arguments.rounds)


if __name__ == "__main__":
    main()
