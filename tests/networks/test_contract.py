"""The four named networks, and timm backbones with the light head, hold the contract of the method."""

from torch import nn

from contract import NetworkContract
from fixtures.shallow import shallow
from selfreg.networks import DeepLabV2, HRNetV2, OCRNet, PyramidNetwork, SPGNet


def stages(*rows: tuple[int, int]) -> tuple[tuple[str, int, int, str], ...]:
    return tuple((f"backbone.stages.{i}", stride, channels, "NCHW") for i, (stride, channels) in enumerate(rows))


class TestDeepLabV2(NetworkContract):
    expected_taps = stages((2, 64), (4, 64), (8, 128), (8, 256))

    def build(self) -> nn.Module:
        return DeepLabV2("resnet10t", self.num_classes)


class TestHRNetV2(NetworkContract):
    expected_taps = stages((4, 128), (4, 16), (4, 16))

    @shallow()
    def build(self) -> nn.Module:
        return HRNetV2("hrnet_w18_small", self.num_classes)


class TestOCRNetOnHRNet(NetworkContract):
    expected_taps = (*stages((4, 128), (4, 16), (4, 16)), ("auxiliary", 4, 5, "NCHW"))

    @shallow()
    def build(self) -> nn.Module:
        return OCRNet("hrnet_w18_small", self.num_classes, width=32)


class TestOCRNetOnResNet(NetworkContract):
    expected_taps = (*stages((2, 64), (4, 64), (8, 128)), ("auxiliary", 8, 5, "NCHW"))

    def build(self) -> nn.Module:
        return OCRNet("resnet10t", self.num_classes, width=32)


class TestSPGNet(NetworkContract):
    expected_taps = (
        ("stages.0", 4, 64, "NCHW"),
        ("stages.1", 8, 128, "NCHW"),
        ("stages.2", 16, 256, "NCHW"),
        ("prediction", 4, 5, "NCHW"),
    )

    def build(self) -> nn.Module:
        return SPGNet("resnet10t", self.num_classes, width=32)


class TestPyramidNetwork(NetworkContract):
    def build(self) -> nn.Module:
        return PyramidNetwork("test_efficientnet", self.num_classes, width=16)
