"""Wrap and train one step of networks of every library, and tabulate what was found.

    python benchmarks/networks.py --quick               # the smallest model of each family: one core, under 15 minutes
    python benchmarks/networks.py                       # both forms of timm's models and every encoder of smp
    python benchmarks/networks.py --only timm/swin      # those whose name contains a text
    python benchmarks/networks.py --table               # print the tables of docs/networks.md from the results

All weights are random, and nothing is downloaded. Of every timm module a small model is taken twice: as a classifier
with a class map on its last features, whose taps must be found, and as `timm:NAME`. With `--quick` the second form is
tried where the first one does not work, and the backbones that people start from now are tried as `timm:NAME`. Each
network is wrapped in `MultiExit` with automatic taps and makes one step of SGD with all five terms on noise. Results
are lines of JSON in `--output`, one per network; a second call goes on where the first one stopped. A network has
`--seconds` for itself, in a process of its own.

Columns: taps with stride and channels; parameters; `step`, the operations that forward, loss and backward launch, as a
multiple of those of the plain network with its own loss (see overhead.py); or why the network does not work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import signal
import warnings
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from network_families import NUM_CLASSES, Case, Size, cases
from overhead import LaunchCount
from selfreg.messages import one_line
from selfreg.regulation import MultiExit, SelfRegulation, main_output, mask_targets, segmentation_loss
from selfreg.regulation.mask_classification import network_loss

Result = dict[str, Any]


def measure(case: Case) -> Result:
    """Build, wrap and step one network."""
    torch.manual_seed(0)
    network, size = _built(case)
    model = MultiExit(network, NUM_CLASSES, image_size=size)
    images = torch.randn(2, 3, *size)
    cell = 16 if size[0] % 16 == size[1] % 16 == 0 else 1
    labels = torch.randint(0, NUM_CLASSES, (2, size[0] // cell, size[1] // cell))
    labels = labels.repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    targets = mask_targets(network, labels)
    model.train()
    with LaunchCount() as plain:  # type: ignore[no-untyped-call]
        torch.autograd.backward(_plain_loss(network(images, **targets), labels))
    model.zero_grad(set_to_none=True)
    with LaunchCount() as regulated:  # type: ignore[no-untyped-call]
        total = SelfRegulation()(model(images, **targets), labels, progress=1.0).total
        torch.autograd.backward(total)
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise ValueError("the step gave weights that are not finite")
    return {
        "size": list(size),
        "taps": [[tap.name, tap.stride, tap.channels] for tap in model.taps],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "step": regulated.count / plain.count,
    }


def _plain_loss(result: Any, labels: Tensor) -> Tensor:
    loss = network_loss(result)
    return segmentation_loss(main_output(result), labels) if loss is None else loss


def _built(case: Case) -> tuple[nn.Module, Size]:
    """The network, and the first size of images that it is built for and takes."""
    errors = []
    for size in dict.fromkeys(case.sizes):
        try:
            network = case.build(size)
            with torch.no_grad():
                network.eval()(torch.zeros(1, 3, *size))
        except Exception as error:
            errors.append(f"{size[0]} x {size[1]}: {one_line(error, first=True)}")
        else:
            return network, size
    raise ValueError(f"it takes no images of the sizes tried ({'; '.join(errors)})")


def in_a_process(case: Case, seconds: float) -> Result:
    """`measure` in a process of its own, which has imported everything already; a failure is a sentence."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(case, seconds, sender))
    process.start()
    sender.close()
    try:
        found: Result = receiver.recv()
    except EOFError:
        process.join()
        late = process.exitcode == -signal.SIGXCPU
        found = {"reason": f"not done after {seconds} s of CPU time" if late else "killed, for want of memory"}
    process.join()
    return found


def _answer(case: Case, seconds: int, sender: Connection) -> None:
    warnings.simplefilter("ignore")
    # CPU time, so that other work on the machine takes none of it
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    torch.set_num_threads(1)
    try:
        sender.send(measure(case))
    except Exception as error:
        sender.send({"reason": one_line(error, first=True)})


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(results: Iterable[Result]) -> str:
    """One Markdown table per group."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["group"], []).append(result)
    return "\n\n".join(_table(group, rows) for group, rows in groups.items())


def _table(group: str, rows: list[Result]) -> str:
    lines = [f"### {group}", "", "| family | network | taps: stride, channels | parameters | step |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in rows:
        name = f"| {row['family']} | `{row['spec']}` |"
        if "reason" in row:
            lines.append(f"{name} {row['reason']} | | |")
            continue
        named = ((tap.removeprefix("backbone."), stride, channels) for tap, stride, channels in row["taps"])
        taps = "; ".join(f"`{tap}` {stride}, {channels}" for tap, stride, channels in named)
        lines.append(f"{name} {taps} | {row['parameters'] / 1e6:.1f} M | {row['step']:.2f} |")
    return "\n".join(lines)


def summary(results: list[Result]) -> str:
    """How many families of each group have a network that works; of timm, either form counts."""
    lines = []
    for group in dict.fromkeys(result["group"] for result in results):
        families: dict[str, bool] = {}
        for result in results:
            if result["group"] == group:
                families[result["family"]] = families.get(result["family"], False) or "reason" not in result
        lines.append(f"{group}: {sum(families.values())} of {len(families)} work")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, try what has no result yet, and print a summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one form of each backbone, one encoder of each family")
    parser.add_argument("--only", nargs="+", default=[""], help="networks whose key GROUP/FAMILY/SPEC has such a text")
    parser.add_argument("--table", action="store_true", help="print the tables of what is in the output already")
    parser.add_argument("--seconds", type=int, default=120, help="of CPU time for one network")
    parser.add_argument("--output", type=Path, default=Path("networks.jsonl"))
    arguments = parser.parse_args()
    kept = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    results: list[Result] = [json.loads(line) for line in kept]
    if arguments.table:
        print(tables(results))
        return
    torch.set_num_threads(1)  # before the processes are forked
    done = {result["key"] for result in results}
    start = _cpu_seconds()
    for case in cases(quick=arguments.quick):
        if case.key in done or not any(text in case.key for text in arguments.only):
            continue
        if arguments.quick and _spared(case, results):
            continue
        begun = _cpu_seconds()
        about = {"key": case.key, "group": case.group, "family": case.family, "spec": case.spec}
        result = {**about, **in_a_process(case, arguments.seconds), "seconds": _cpu_seconds() - begun}
        results.append(result)
        with arguments.output.open("a") as file:
            print(json.dumps(result), file=file)
        found = result.get("reason") or f"step x {result['step']:.2f}"
        print(f"{result['seconds']:5.1f} s  {case.key}: {found}", flush=True)
    print(f"{summary(results)}\n({_cpu_seconds() - start:.0f} s of CPU time)")


def _spared(case: Case, results: list[Result]) -> bool:
    """Whether the quick run leaves out this form of a backbone of timm."""
    if case.group == "modern":
        return not case.spec.startswith("timm:")
    works = {(result["group"], result["family"]) for result in results if "reason" not in result}
    return case.group == "timm" and (case.group, case.family) in works


def _cpu_seconds() -> float:
    """CPU time of this process and of the ones that it waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    main()
