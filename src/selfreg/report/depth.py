"""The curve of mIoU by depth: the mIoU of every exit of a network."""

from collections.abc import Mapping, Sequence

from selfreg.report.content import Curve


def depth_curve(miou_by_depth: Mapping[str, Sequence[float]]) -> list[Curve]:
    """Plot the mIoU of every exit against its depth.

    Args:
        miou_by_depth: For each run or arm the mIoU of its exits in [0, 1], from shallow to deep, the network's output
            last; empty for a run without exits.

    Returns:
        One curve, or none if no run has exits. Exits are counted back from the network's output, which is 0.
    """
    lines = {name: values for name, values in miou_by_depth.items() if values}
    if not lines:
        return []
    depths = max(len(values) for values in lines.values())
    padded = {
        name: (*[None] * (depths - len(values)), *(100 * value for value in values)) for name, values in lines.items()
    }
    x = tuple(float(number) for number in range(1 - depths, 1))
    title = "mIoU of every exit (validation split, last epoch)"
    return [Curve(title, "exit (0: the network's output)", "mIoU, %", x, padded)]
