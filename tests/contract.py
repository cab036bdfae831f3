"""The contract that every network holds with MultiExit: inherit `NetworkContract` and give `build`.

class TestMyNetwork(NetworkContract):
    def build(self):
        return MyNetwork(num_classes=self.num_classes)
"""

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from selfreg.regulation import ExitOutputs, LossTerms, MultiExit, SelfRegulation, find_taps, main_output


class NetworkContract:
    """What MultiExit promises, tested on the network that `build` gives."""

    num_classes = 5
    image_size = (64, 64)
    odd_size = (57, 70)
    taps: Any = "auto"
    expected_taps: tuple[tuple[str, int, int, str], ...] | None = None
    """(name, stride, channels, layout) of each tap, shallow to deep, where the test pins them down."""

    def build(self) -> nn.Module:
        """Give the network, with random weights, for `num_classes` classes."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls) -> nn.Module:
        """One network per class; tests work on copies."""
        torch.manual_seed(0)
        network = cls().build().eval()
        with torch.no_grad():  # transformers installs hooks of its own at the first call
            network(torch.zeros(1, 3, *cls.image_size))
        return network

    @pytest.fixture
    def network(self, built: nn.Module) -> nn.Module:
        """A fresh copy of the network, in eval mode."""
        return copy.deepcopy(built)

    @pytest.fixture(scope="class")
    @classmethod
    def wrapped(cls, built: nn.Module) -> MultiExit:
        """One wrapper per class, in eval mode inside, so that it computes the same each time."""
        torch.manual_seed(1)
        network = copy.deepcopy(built)
        return steady(MultiExit(network, cls.num_classes, cls.taps, image_size=cls.image_size))

    @pytest.fixture
    def model(self, wrapped: MultiExit) -> MultiExit:
        """A fresh copy of the wrapper."""
        return copy.deepcopy(wrapped)

    @pytest.fixture
    def images(self) -> Tensor:
        return torch.randn(2, 3, *self.image_size, generator=torch.Generator().manual_seed(2))

    @pytest.fixture
    def labels(self) -> Tensor:
        labels = torch.randint(0, self.num_classes, (2, *self.image_size), generator=torch.Generator().manual_seed(3))
        labels[:, :5] = 255
        return labels

    def test_the_taps_are_the_networks_stages(self, network: nn.Module) -> None:
        taps = find_taps(network, self.image_size, names=None if self.taps == "auto" else self.taps)
        assert 2 <= len(taps) <= 5
        assert [tap.stride for tap in taps if not tap.is_class_map] == sorted(
            tap.stride for tap in taps if not tap.is_class_map
        )
        if self.expected_taps is not None:
            assert tuple((tap.name, tap.stride, tap.channels, tap.layout) for tap in taps) == self.expected_taps
        assert all(tap.name in str(taps) for tap in taps)

    def test_training_gives_every_exit_and_the_networks_own_output_last(
        self, model: MultiExit, built: nn.Module, images: Tensor
    ) -> None:
        outputs = model(images)
        assert isinstance(outputs, ExitOutputs)
        assert len(outputs.class_maps) == len(outputs.image_logits) == len(model.taps) + 1
        for tap, class_map in zip(model.taps, outputs.class_maps, strict=False):
            stride = tap.stride if tap.is_class_map else max(tap.stride, 4)
            assert class_map.shape == (2, self.num_classes, *(size // stride for size in self.image_size))
        assert all(logits.shape == (2, self.num_classes) for logits in outputs.image_logits)
        assert torch.equal(outputs.class_maps[-1], main_output(built(images)))

    def test_gradients_reach_every_parameter_that_trains(
        self, model: MultiExit, built: nn.Module, images: Tensor, labels: Tensor
    ) -> None:
        plain = copy.deepcopy(built).train()
        torch.autograd.backward(main_output(plain(images)).logsumexp(dim=1).sum())
        trained = {f"network.{name}" for name, parameter in plain.named_parameters() if parameter.grad is not None}
        trained |= {f"exits.{name}" for name, _ in model.exits.named_parameters()}
        torch.autograd.backward(regulate(model.train(), images, labels).total)
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert trained - reached == set()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    def test_eval_is_the_bare_network_and_records_nothing(
        self, model: MultiExit, built: nn.Module, images: Tensor
    ) -> None:
        ran: list[nn.Module] = []
        for exit_ in model.exits:
            exit_.register_forward_hook(lambda module, _inputs, _output: ran.append(module))
        model.eval()
        with torch.no_grad():
            result = model(images)
            bare = built(images)
        assert type(result) is type(bare)
        assert torch.equal(main_output(result), main_output(bare))
        assert ran == []
        assert recorded(model) == {}

    def test_release_gives_the_same_object_back_as_it_was(
        self, network: nn.Module, built: nn.Module, images: Tensor, labels: Tensor
    ) -> None:
        hooks = hook_set(network)
        network.train()
        model = MultiExit(network, self.num_classes, self.taps, image_size=self.image_size)
        assert hook_set(network) != hooks
        assert network.training
        assert_equal_states(network, built)
        torch.autograd.backward(regulate(steady(model), images, labels).total)
        released = model.release()
        assert released is network
        assert hook_set(network) == hooks
        assert_equal_states(network, built)
        with torch.no_grad():
            assert torch.equal(main_output(network.eval()(images)), main_output(built(images)))

    def test_state_makes_the_round_trip(self, model: MultiExit, built: nn.Module, images: Tensor) -> None:
        state = model.state_dict()
        assert {key.split(".")[0] for key in state} == {"network", "exits"}
        other = steady(MultiExit(copy.deepcopy(built), self.num_classes, self.taps, image_size=self.image_size))
        other.load_state_dict(state)
        assert_same(model(images), other(images))

    @pytest.mark.slow
    def test_the_wrapper_compiles_without_a_graph_break_where_the_network_does(
        self, model: MultiExit, built: nn.Module, images: Tensor
    ) -> None:
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        if self.breaks_graphs:
            with pytest.raises(Exception):  # noqa: B017 - dynamo raises many kinds
                torch.compile(copy.deepcopy(built), fullgraph=True, backend="eager")(images)
            return
        assert_same(compiled(images), model(images), tolerance=1e-5)
        assert_same(compiled(images), model(images), tolerance=1e-5)
        assert recorded(model) == {}

    breaks_graphs = False
    """The bare network itself does not compile with fullgraph=True."""

    def test_autocast_gives_float32_losses_near_those_of_float32(
        self, model: MultiExit, images: Tensor, labels: Tensor
    ) -> None:
        exact = regulate(model, images, labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = regulate(model, images, labels)
        assert terms.total.dtype == torch.float32
        torch.autograd.backward(terms.total)
        for name, value in terms.raw().items():
            assert value.item() == pytest.approx(exact.raw()[name].item(), rel=0.1, abs=0.05), name

    def test_activation_checkpointing_gives_exact_gradients(
        self, model: MultiExit, images: Tensor, labels: Tensor
    ) -> None:
        expected = gradients(model, images, labels)
        forward = model.network.forward
        model.network.forward = functools.partial(checkpoint, forward, use_reentrant=False)
        for _ in range(2):
            found = gradients(model, images, labels)
            assert found.keys() == expected.keys()
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
            assert recorded(model) == {}

    def test_an_exception_in_forward_leaves_nothing_recorded(self, model: MultiExit, images: Tensor) -> None:
        with failing(model.network), pytest.raises(RuntimeError, match="broken on purpose"):
            model(images)
        assert recorded(model) == {}
        with torch.no_grad():
            model.network(images)
        assert recorded(model) == {}
        assert isinstance(model(images), ExitOutputs)

    def test_a_second_wrapper_is_refused(self, model: MultiExit) -> None:
        with pytest.raises(ValueError, match="already carries exits.*release"):
            MultiExit(model.network, self.num_classes)
        with pytest.raises(ValueError, match="already carries exits.*release"):
            MultiExit(model, self.num_classes)
        with pytest.raises(ValueError, match="already carries exits.*release"):
            MultiExit(nn.Sequential(model.network), self.num_classes)

    def test_a_deep_copy_is_independent(self, model: MultiExit, images: Tensor) -> None:
        twin = copy.deepcopy(model)
        before = model(images)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        assert_same(model(images), before)
        twin.release()
        assert_same(model(images), before)
        model.release()
        assert hook_set(model.network) == hook_set(twin.network)

    def test_odd_sizes_work_where_the_bare_network_takes_them(self, model: MultiExit, built: nn.Module) -> None:
        images = torch.randn(2, 3, *self.odd_size)
        labels = torch.randint(0, self.num_classes, (2, *self.odd_size))
        try:
            with torch.no_grad():
                built(images)
        except Exception as error:  # whatever the network says of a size that it refuses
            with pytest.raises(type(error)):
                model(images)
            assert recorded(model) == {}
            return
        terms = regulate(model, images, labels)
        torch.autograd.backward(terms.total)
        assert torch.isfinite(terms.total)


# --- tools -----------------------------------------------------------------------------------------------------------


def steady(model: MultiExit) -> MultiExit:
    """The wrapper in train mode around a network and exits in eval mode: taps are recorded, nothing is random."""
    model.train()
    model.network.eval()
    model.exits.eval()
    return model


def regulate(model: nn.Module, images: Tensor, labels: Tensor, variant: Any = "distill") -> LossTerms:
    """One step's terms after warm-up."""
    return SelfRegulation(variant)(model(images), labels, progress=1.0)


def gradients(model: MultiExit, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Every parameter's gradient of one step."""
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(regulate(model, images, labels).total)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def recorded(model: MultiExit) -> dict[str, Any]:
    """What the wrapper's hooks hold at this moment."""
    assert not model._record.active
    return model._record.outputs


def hook_set(module: nn.Module) -> set[tuple[str, int]]:
    """Every forward hook under a module: (name of the module that carries it, its place)."""
    return {
        (name, place)
        for name, child in module.named_modules()
        for hooks in (child._forward_hooks, child._forward_pre_hooks)
        for place, _ in enumerate(hooks.values())
    }


def assert_equal_states(first: nn.Module, second: nn.Module) -> None:
    """Two networks have the same keys, in the same order, with bit-equal values."""
    assert list(first.state_dict()) == list(second.state_dict())
    for (name, mine), theirs in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def assert_same(found: ExitOutputs, expected: ExitOutputs, tolerance: float = 0.0) -> None:
    """Two outputs are equal, or within an absolute and relative tolerance."""
    for mine, theirs in zip(
        (*found.class_maps, *found.image_logits), (*expected.class_maps, *expected.image_logits), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@contextmanager
def failing(network: nn.Module) -> Iterator[None]:
    """Make a network's forward raise after all of its modules have run."""

    def fail(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        raise RuntimeError("broken on purpose")

    handle = network.register_forward_hook(fail)
    try:
        yield
    finally:
        handle.remove()


Build = Callable[[int], nn.Module]


def contract_for(
    name: str, build: Build, expected: tuple[tuple[str, int, int, str], ...] | None = None, **settings: Any
) -> type[NetworkContract]:
    """Make a test class for one network: `build(num_classes)`, the taps expected of it, other class attributes.

    representative=False is for further members of a family, of which one or two are representative: they are not
    compiled, which takes seconds of tracing, and all their tests are slow ones.
    """
    members: dict[str, Any] = {"build": lambda self: build(self.num_classes), "expected_taps": expected, **settings}
    if not members.pop("representative", True):
        members["test_the_wrapper_compiles_without_a_graph_break_where_the_network_does"] = None
        members["pytestmark"] = pytest.mark.slow
    return type(name, (NetworkContract,), members)
