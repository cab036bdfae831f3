"""Parameter groups and the learning-rate schedule."""

from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from selfreg.config import TrainingConfig
from selfreg.regulation import MultiExit

# where the libraries of this field keep the pretrained part of a network
_BACKBONE_NAMES = ("encoder", "backbone", "model.encoder", "segformer", "dpt", "pixel_level_module")


def backbone_of(network: nn.Module) -> nn.Module | None:
    """The pretrained part of a segmentation network, or None where the network does not name one."""
    for name in _BACKBONE_NAMES:
        try:
            return network.get_submodule(name)
        except AttributeError:
            continue
    return None


def parameter_groups(
    network: nn.Module, exits: Iterable[nn.Parameter], config: TrainingConfig
) -> list[dict[str, object]]:
    """Parameter groups for the optimiser, each part of the model with its own learning rate.

    Args:
        network: The plain network. One that names no backbone counts as backbone whole.
        exits: Parameters of the exits.
        config: `learning_rate`, and its factors for backbone, head and exits; exits take the factor of the head where
            they have none of their own. Norm layers and biases carry no `weight_decay`.

    Source: DeepLab-v2's tenfold head rate, extended to the exits (this project's).
    """
    backbone = backbone_of(network)
    slow = list((network if backbone is None else backbone).parameters())
    slow_ids = {id(parameter) for parameter in slow}
    head = [parameter for parameter in network.parameters() if id(parameter) not in slow_ids]
    groups: list[dict[str, object]] = []
    for name, parameters, factor in (
        ("backbone", slow, config.backbone_learning_rate_factor),
        ("head", head, config.head_learning_rate_factor),
        ("exits", list(exits), config.exit_learning_rate_factor or config.head_learning_rate_factor),
    ):
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        for decay, chosen in (
            (config.weight_decay, [parameter for parameter in trainable if parameter.ndim > 1]),
            (0.0, [parameter for parameter in trainable if parameter.ndim <= 1]),
        ):
            if chosen:
                rate = config.learning_rate * factor
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "name": f"{name}_decay_{decay:g}"})
    return groups


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """AdamW, or SGD with momentum, for the groups of `parameter_groups`.

    Args:
        model: A plain network, or a `MultiExit`, whose parameters beside those of its network are those of the exits.
        config: Optimizer, learning rates and weight decay.
    """
    network = model.network if isinstance(model, MultiExit) else model
    known = {id(parameter) for parameter in network.parameters()}
    exits = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = parameter_groups(network, exits, config)
    if config.optimizer == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    return AdamW(groups, lr=config.learning_rate)


def poly_schedule(total_steps: int, power: float, linear_warm_up_steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at a step: linear from 0 during the warm-up, then (1 - step / total) ** power."""

    def factor(step: int) -> float:
        if step < linear_warm_up_steps:
            return (step + 1) / (linear_warm_up_steps + 1)
        return float(max(0.0, 1.0 - step / max(total_steps, 1)) ** power)

    return factor


def follow_schedule(scheduler: LambdaLR) -> None:
    """Set the learning rates of the optimiser to those of its schedule at the present step."""
    rates = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    for group, rate, factor in rates:
        group["lr"] = rate * factor(scheduler.last_epoch)
