"""SPGNet: guidance, decoders and what is carried across stages."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfreg.networks import SPGNet
from selfreg.networks.spgnet import Decoder, SemanticPredictionGuidance


def test_guidance_multiplies_by_the_sigmoid_of_the_projected_class_maps() -> None:
    guidance: Any = SemanticPredictionGuidance(4, 3)
    features, class_maps = torch.randn(1, 4, 2, 2), torch.randn(1, 3, 2, 2)
    expected = torch.zeros_like(features)
    weight = guidance.project.weight[:, :, 0, 0]
    for channel in range(4):
        for y in range(2):
            for x in range(2):
                score = sum(weight[channel, k] * class_maps[0, k, y, x] for k in range(3))
                gate = 1 / (1 + torch.exp(-(score + guidance.project.bias[channel])))
                expected[0, channel, y, x] = features[0, channel, y, x] * gate
    torch.testing.assert_close(guidance(features, class_maps), expected)


def test_guidance_can_silence_a_feature() -> None:
    guidance: Any = SemanticPredictionGuidance(4, 3)
    nn.init.constant_(guidance.project.bias, -100.0)
    assert guidance(torch.randn(1, 4, 2, 2), torch.randn(1, 3, 2, 2)).abs().max() < 1e-6


def test_a_decoder_adds_each_stride_to_the_coarser_result_doubled() -> None:
    torch.manual_seed(0)
    decoder: Any = Decoder([4, 8], width=16).eval()
    fine, coarse = torch.randn(1, 4, 8, 12), torch.randn(1, 8, 4, 6)

    def norm(features: Tensor, layer: Any) -> Tensor:
        convolution, batch_norm = layer
        return functional.batch_norm(
            functional.conv2d(features, convolution.weight, convolution.bias),
            batch_norm.running_mean,
            batch_norm.running_var,
            batch_norm.weight,
            batch_norm.bias,
        )

    with torch.no_grad():
        mean = functional.relu(decoder.image_mean[1](coarse.mean(dim=(2, 3), keepdim=True)))
        deep = decoder.blocks[1][1](functional.relu(norm(coarse, decoder.laterals[1]) + mean))
        doubled = functional.interpolate(deep, (8, 12), mode="bilinear", align_corners=True)
        shallow = decoder.blocks[0][1](functional.relu(norm(fine, decoder.laterals[0]) + doubled))
        decoded = decoder([fine, coarse])
    torch.testing.assert_close(decoded, [shallow, deep])
    assert decoded[0].shape == (1, 16, 8, 12)


def outputs_after(network: SPGNet, silenced: str, images: Tensor) -> Tensor:
    """The logits when every tensor of a part of the network is zero."""
    part = network.get_submodule(silenced)
    state = {key: value.clone() for key, value in part.state_dict().items()}
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.zero_()
        logits: Tensor = network(images)
    part.load_state_dict(state)
    return logits


def test_every_part_of_the_first_stage_reaches_the_output() -> None:
    torch.manual_seed(0)
    network = SPGNet("resnet18", 4, width=32).eval()
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        whole = network(images)
    carried = [f"{part}.{i}" for part in ("from_encoder", "from_decoder") for i in range(4)]
    for part in ("prediction", "guidance", "entry", "decoder", "second_decoder", "backbone.0", "backbone.1", *carried):
        assert not torch.equal(outputs_after(network, part, images), whole), part


def test_both_decoders_work_at_strides_4_to_32() -> None:
    network = SPGNet("resnet18", 4, width=32).eval()
    shapes: list[list[tuple[int, ...]]] = []
    for decoder in (network.decoder, network.second_decoder):
        decoder.register_forward_hook(lambda _m, _i, outputs: shapes.append([tuple(o.shape[1:]) for o in outputs]))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 96))
    assert shapes == 2 * [[(32, 16, 24), (32, 8, 12), (32, 4, 6), (32, 2, 3)]]
