"""Networks for images with other than three bands."""

from torch import nn


def adapt_input(network: nn.Module, bands: int) -> nn.Module:
    """Let the first convolution of a network take images with `bands` bands, in place.

    Weights, pretrained or not, are kept as timm keeps them (`adapt_input_conv`): summed over red, green and blue for
    one band, else repeated and rescaled.

    Args:
        network: A network for RGB images, or one that takes `bands` bands already.
        bands: Number of bands of the images.

    Returns:
        The same network.

    Raises:
        ValueError: If the first convolution takes another number of bands.
    """
    from timm.models import adapt_input_conv

    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels not in (3, bands) or first.groups != 1:
        found = "no convolution" if first is None else f"a first convolution of {first.in_channels} channels"
        raise ValueError(
            f"{type(network).__name__} has {found}, which cannot be adapted to data.bands: {bands}; use a network of "
            "smp or timm"
        )
    if first.in_channels != bands:
        first.weight = nn.Parameter(adapt_input_conv(bands, first.weight.detach()))
        first.in_channels = bands
    return network
