"""The whole objective: against the slow oracle, by gradcheck, and by its properties."""

import math
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regulation import slow_terms
from selfreg.regulation import ExitOutputs, LossTerms, SelfRegulation
from selfreg.regulation.step import Step

VOID = 255
VARIANTS = ("authors", "distill", "feature", "verified")
RESOLUTIONS = ("exit", "label")
K = 3
GRIDS = ((4, 4), (4, 4), (2, 2), (8, 8))  # two exits at a quarter, one coarser, the own output at label resolution


def outputs(seed: int = 0, scale: float = 2.0, grids: Any = GRIDS, **options: Any) -> ExitOutputs:
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64, **options}
    return ExitOutputs(
        [scale * torch.randn(2, K, *size, **options) for size in grids],
        [scale * torch.randn(2, K, **options) for _ in grids],
        [torch.randn(2, 5, *size, **options) for size in grids],
    )


def batch(seed: int = 0) -> Tensor:
    labels = torch.randint(0, K, (2, 8, 8), generator=torch.Generator().manual_seed(seed + 100))
    labels[0, :3] = VOID
    labels[1, 4:, 5] = VOID
    return labels


def tracked(given: ExitOutputs) -> ExitOutputs:
    for tensors in (given.class_maps, given.image_logits, given.features):
        for tensor in tensors:
            tensor.requires_grad_()
    return given


def map_outputs(given: ExitOutputs, change: Any) -> ExitOutputs:
    maps, logits, features = ([change(tensor) for tensor in tensors] for tensors in given[:3])
    return ExitOutputs(maps, logits, features)


def total(given: ExitOutputs, labels: Tensor, variant: Any = "distill", **options: Any) -> LossTerms:
    return SelfRegulation(variant, **options)(given, labels, 1.0)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("temperature", "window", "average"), [(1.0, 4, "class"), (2.0, 2, "pair"), (1.0, 32, "class")]
)
def test_every_term_equals_the_slow_oracle(
    variant: Any, resolution: Any, temperature: float, window: int, average: Any
) -> None:
    temperature = 1.0 if variant == "authors" else temperature
    given, labels = outputs(1), batch(1)
    confidence = torch.rand(2, 8, 8, dtype=torch.float64) + 0.5
    for weight in (None, confidence):
        objective = SelfRegulation(
            variant,
            exit_resolution=resolution,
            temperature=temperature,
            local_presence_window=window,
            local_presence_average=average,
        )
        found = objective(given, labels, 1.0, confidence=weight)
        expected = slow_terms.terms(
            [class_map.numpy() for class_map in given.class_maps],
            [logits.numpy() for logits in given.image_logits],
            labels.numpy(),
            variant=variant,
            at_labels=resolution == "label",
            temperature=temperature,
            confidence=None if weight is None else weight.numpy(),
            features=[features.numpy() for features in given.features],
            window=window,
            mean_over=average,
        )
        for name, value in found.raw().items():
            assert value.item() == pytest.approx(expected[name], rel=1e-6), name
        weights = {"segmentation": 0.8, "classification": 0.2, "local_presence": 1.0, "sr_f": 0.2, "sr_l": 0.2}
        assert found.total.item() == pytest.approx(sum(weights[name] * expected[name] for name in weights), rel=1e-6)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_the_value(variant: str, resolution: Any) -> None:
    given, labels = tracked(outputs(2)), batch(2)
    maps, logits, features = given.class_maps, given.image_logits, given.features
    frozen = map_outputs(given, lambda tensor: tensor.detach().clone())

    # Numerical differences see through a detached teacher, so each direction is checked with its teacher held still.
    def sr_f(*students: Tensor) -> Tensor:
        held = ExitOutputs([frozen.class_maps[0], *students[:3]], [*logits], [frozen.features[0], *students[3:]])
        return total(held, labels, variant, exit_resolution=resolution).sr_f

    def sr_l(*students: Tensor) -> Tensor:
        held = ExitOutputs(
            [*students[:3], frozen.class_maps[3]], [*students[3:], frozen.image_logits[3]], frozen.features
        )
        return total(held, labels, variant, exit_resolution=resolution).sr_l

    def multi_exit(*tensors: Tensor) -> Tensor:
        terms = total(
            ExitOutputs([*tensors[:4]], [*tensors[4:]], frozen.features), labels, variant, exit_resolution=resolution
        )
        return terms.segmentation + terms.classification + terms.local_presence

    assert torch.autograd.gradcheck(sr_f, (*maps[1:], *features[1:]), fast_mode=True)
    assert torch.autograd.gradcheck(sr_l, (*maps[:3], *logits[:3]), fast_mode=True)
    assert torch.autograd.gradcheck(multi_exit, (*maps, *logits), fast_mode=True)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_gradient_reaches_a_teacher(variant: str, resolution: Any) -> None:
    own_map = torch.randn(2, K, 4, 4, dtype=torch.float64, requires_grad=True)
    given = tracked(outputs(3))._replace(own_map=own_map)
    terms = total(given, batch(3), variant, exit_resolution=resolution)
    teachers = {"sr_f": [given.class_maps[0], given.features[0]], "sr_l": [given.class_maps[-1], own_map]}
    teachers["sr_l"].append(given.image_logits[-1])
    for name, tensors in teachers.items():
        for gradient in torch.autograd.grad(terms.raw()[name], tensors, allow_unused=True, retain_graph=True):
            assert gradient is None or not gradient.any(), name
    students = torch.autograd.grad(terms.sr_f, given.class_maps[1:] + given.features[1:] + [own_map], allow_unused=True)
    assert sum(gradient is not None and bool(gradient.any()) for gradient in students) == 3


def test_the_own_output_is_trained_at_label_resolution_whatever_the_exits_do() -> None:
    given, labels = outputs(4), batch(4)
    own = ExitOutputs(given.class_maps[-1:], given.image_logits[-1:])
    expected = torch.nn.functional.cross_entropy(given.class_maps[-1], labels, ignore_index=VOID)
    for resolution in RESOLUTIONS:
        terms = total(own, labels, exit_resolution=resolution)
        torch.testing.assert_close(terms.segmentation, expected)
        assert terms.sr_f.item() == terms.sr_l.item() == 0


def test_the_own_map_takes_the_own_outputs_place_in_regulation_alone() -> None:
    given, labels = outputs(5), batch(5)
    pooled = torch.nn.functional.avg_pool2d(given.class_maps[-1], 2)
    expected, found = (total(each, labels).raw() for each in (given, given._replace(own_map=pooled)))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), variant=st.sampled_from(VARIANTS), resolution=st.sampled_from(RESOLUTIONS))
def test_neither_batch_order_nor_flips_change_a_term(seed: int, variant: str, resolution: str) -> None:
    given, labels = outputs(seed), batch(seed)
    expected = total(given, labels, variant, exit_resolution=resolution).raw()
    changes = [
        lambda t: t.flip(0),
        lambda t: t.flip(2) if t.ndim == 4 else t,
        lambda t: t.flip(3) if t.ndim == 4 else t,
    ]
    for change, flipped in zip(changes, (labels.flip(0), labels.flip(1), labels.flip(2)), strict=True):
        found = total(map_outputs(given, change), flipped, variant, exit_resolution=resolution).raw()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_verified_is_never_more_than_distill(seed: int) -> None:
    given, labels = outputs(seed), batch(seed)
    verified, distill = total(given, labels, "verified"), total(given, labels, "distill")
    assert 0 <= verified.sr_f <= distill.sr_f
    assert 0 <= verified.sr_l <= distill.sr_l


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_lies_under_void_changes_nothing_at_label_resolution(variant: str) -> None:
    given, labels = outputs(6, grids=((8, 8),) * 3), batch(6)
    void = (labels == VOID)[:, None]
    changed = ExitOutputs(
        [class_map.masked_fill(void, 7.0) for class_map in given.class_maps],
        given.image_logits,
        [features.masked_fill(void, 7.0) for features in given.features],
    )
    for name, value in total(given, labels, variant).raw().items():
        torch.testing.assert_close(total(changed, labels, variant).raw()[name], value)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_with_nothing_valid_gives_a_finite_zero_with_a_graph(variant: str, resolution: Any) -> None:
    given = tracked(outputs(7))
    terms = total(given, torch.full((2, 8, 8), VOID), variant, exit_resolution=resolution)
    assert all(value.item() == 0 for value in (*terms.raw().values(), terms.total))
    torch.autograd.backward(terms.total)
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in given.class_maps + given.image_logits)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_extreme_logits_give_no_nan(variant: str, resolution: Any) -> None:
    given = tracked(outputs(8, scale=1e4, dtype=torch.float32))
    terms = total(given, batch(8), variant, exit_resolution=resolution)
    assert all(torch.isfinite(value) for value in (*terms.raw().values(), terms.total))
    torch.autograd.backward(terms.total)
    for tensor in given.class_maps + given.image_logits:
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_outputs_are_computed_in_float32(variant: str, dtype: torch.dtype) -> None:
    labels = batch(9)
    half = map_outputs(outputs(9, dtype=torch.float32), lambda tensor: tensor.to(dtype))
    expected = total(map_outputs(half, lambda tensor: tensor.float()), labels, variant).raw()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = total(half, labels, variant).raw()
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["step", "ramp"])
def test_the_compiled_objective_is_the_same_and_not_compiled_anew_at_every_step(shape: Any) -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, _examples: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    objective = SelfRegulation(warm_up_shape=shape)
    compiled = torch.compile(objective, backend=backend)
    labels = batch(11)
    known = 0
    for step in range(20):
        given, same = tracked(outputs(step)), tracked(outputs(step))
        expected, found = objective(given, labels, step / 19), compiled(same, labels, step / 19)
        assert found.weights == expected.weights
        for name, value in expected.raw().items():
            torch.testing.assert_close(found.raw()[name], value, msg=name)
        torch.autograd.backward([expected.total, found.total])
        for one, other in zip(given.class_maps, same.class_maps, strict=True):
            torch.testing.assert_close(other.grad, one.grad)
        if step == 6:  # the warm-up is over; a later one would be within what dynamo takes before it gives up
            known = len(graphs)
    assert 0 < len(graphs) == known


@pytest.mark.slow
@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_torch_compile_takes_the_objective_as_one_graph(
    variant: Any, resolution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr("selfreg.regulation.objective._check_range", lambda *_: None)  # reads labels, on a CPU alone
    objective = SelfRegulation(variant, exit_resolution=resolution, class_weights=torch.ones(K, dtype=torch.float64))
    given, labels = tracked(outputs(12)), batch(12)
    further = {"image_labels": torch.ones(2, K), "confidence": torch.rand(2, 8, 8)}
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(given, labels, 0.5, **further).total, objective(given, labels, 0.5, **further).total
    )


def test_reduction_mean_divides_each_term_by_its_exits() -> None:
    given, labels = outputs(10), batch(10)
    summed, mean = total(given, labels).raw(), total(given, labels, reduction="mean").raw()
    for name, exits in (("segmentation", 4), ("classification", 4), ("local_presence", 4), ("sr_f", 3), ("sr_l", 3)):
        torch.testing.assert_close(mean[name] * exits, summed[name])


def test_the_total_is_the_sum_of_the_weighted_terms() -> None:
    objective = SelfRegulation(
        classification_weight=0.3,
        segmentation_weight=0.7,
        sr_f_weight=2.0,
        sr_l_weight=0.5,
        local_presence_weight=3.0,
        warm_up_shape="ramp",
    )
    terms = objective(outputs(11), batch(11), 0.125)
    weights = {"segmentation": 0.7, "classification": 0.3, "local_presence": 1.5, "sr_f": 1.0, "sr_l": 0.25}
    assert terms.weights == weights
    torch.testing.assert_close(terms.total, torch.stack(list(terms.weighted().values())).sum())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("step", [0.0, 0.0, 0.0, 1.0, 1.0]), ("ramp", [0.0, 0.4, 0.96, 1.0, 1.0])],
)
def test_warm_up_follows_training_progress(shape: Any, expected: list[float]) -> None:
    objective = SelfRegulation(warm_up_shape=shape)
    found = [objective.regulation_weight(progress) for progress in (0.0, 0.1, 0.24, 0.25, 1.0)]
    assert found == pytest.approx(expected)
    assert SelfRegulation(warm_up=0.0, warm_up_shape=shape).regulation_weight(0.0) == 1.0


@pytest.mark.parametrize("name", ["segmentation", "classification", "local_presence", "sr_f", "sr_l"])
def test_a_term_of_weight_zero_is_not_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_step: Step) -> list[Tensor]:
        raise AssertionError(f"{name} was computed")

    monkeypatch.setattr(Step, name, refuse)
    given = tracked(outputs(12))
    options: dict[str, Any] = {f"{name}_weight": 0.0}
    terms = SelfRegulation(**options)(given, batch(12), 1.0)
    assert terms.raw()[name].item() == 0
    torch.autograd.backward(terms.total)
    assert all(logits.grad is not None for logits in given.image_logits)


def test_warm_up_computes_no_regulation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_step: Step) -> list[Tensor]:
        raise AssertionError("computed during warm-up")

    monkeypatch.setattr(Step, "sr_f", refuse)
    monkeypatch.setattr(Step, "sr_l", refuse)
    monkeypatch.setattr(Step, "local_presence", refuse)
    terms = SelfRegulation("feature")(outputs(13), batch(13), 0.2)
    assert terms.sr_f.item() == terms.sr_l.item() == terms.local_presence.item() == 0


def test_image_labels_take_the_place_of_the_classes_found_in_the_mask() -> None:
    given, labels = outputs(14), batch(14)
    tags = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    plain = SelfRegulation()(given, labels, 1.0)
    tagged = SelfRegulation()(given, labels, 1.0, image_labels=tags)
    expected = sum(
        torch.nn.functional.binary_cross_entropy_with_logits(logits, tags.double()) for logits in given.image_logits
    )
    torch.testing.assert_close(tagged.classification, expected)
    assert tagged.classification != plain.classification
    assert torch.equal(tagged.segmentation, plain.segmentation)


def test_tags_are_learnt_from_even_where_no_pixel_is_valid() -> None:
    terms = SelfRegulation()(outputs(15), torch.full((2, 8, 8), VOID), 1.0, image_labels=torch.ones(2, K))
    assert terms.classification > 0
    assert terms.segmentation.item() == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_confidence_zero_is_void_for_every_pixel_term(variant: Any) -> None:
    given, labels = outputs(16), batch(16)
    confidence = (torch.rand(2, 8, 8) > 0.4).double()
    void = labels.masked_fill(confidence == 0, VOID)
    found, expected = (
        SelfRegulation(variant)(given, labels, 1.0, confidence=confidence).raw(),
        SelfRegulation(variant)(given, void, 1.0).raw(),
    )
    for name in (
        ("segmentation", "local_presence", "sr_f", "sr_l") if variant != "authors" else ("segmentation", "sr_f")
    ):
        torch.testing.assert_close(found[name], expected[name])


def test_class_weights_change_the_segmentation_term_alone() -> None:
    given, labels = outputs(17), batch(17)
    plain, weighted = (
        total(given, labels, "verified", class_weights=weights).raw()
        for weights in (None, torch.tensor([1.0, 2.0, 4.0]))
    )
    same = [name for name in plain if torch.equal(plain[name], weighted[name])]
    assert same == ["classification", "local_presence", "sr_f", "sr_l"]
    nearest = [torch.nn.functional.interpolate(m, size=(8, 8)) for m in given.class_maps[:3]]
    expected = sum(
        torch.nn.functional.cross_entropy(
            class_map, labels, ignore_index=VOID, weight=torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
        )
        for class_map in [*nearest, given.class_maps[-1]]
    )
    torch.testing.assert_close(weighted["segmentation"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": torch.zeros(2, K, 8, 8)}, "takes ExitOutputs, not a Tensor: is the model in eval mode"),
        ({"labels": torch.full((2, 8, 8), 3)}, "label 3 is neither in 0..2 nor ignore_index = 255"),
        ({"labels": torch.full((2, 8, 8), -1)}, "label -1"),
        ({"labels": torch.zeros(2, 8, 8)}, "labels must be int64"),
        ({"labels": torch.zeros(3, 8, 8, dtype=torch.int64)}, r"labels must be int64 \(2, H, W\)"),
        ({"progress": 1.5}, "progress is a fraction"),
        ({"image_labels": torch.ones(2, 4)}, r"image_labels must be \(2, 3\)"),
        ({"confidence": torch.ones(2, 4, 4)}, "confidence must have the labels' shape"),
        ({"outputs": ExitOutputs(outputs().class_maps, outputs().image_logits[1:])}, "one of each per exit"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    arguments = {"outputs": outputs(), "labels": batch(), "progress": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        SelfRegulation()(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "chain"}, "variant must be one of authors, distill, feature, verified"),
        ({"reduction": "max"}, "reduction must be one of"),
        ({"exit_resolution": "half"}, "exit_resolution must be one of"),
        ({"warm_up_shape": "cosine"}, "warm_up_shape must be one of"),
        ({"temperature": 0.0}, "temperature must be finite and above 0, not 0.0"),
        ({"variant": "authors", "temperature": 2.0}, "temperature 2.0 has no effect on the variant authors"),
        ({"local_presence_window": 0}, "local_presence_window must be a number of pixels, at least 1, not 0"),
        ({"local_presence_average": "window"}, "local_presence_average must be one of class, pair"),
        ({"sr_f_weight": -1.0}, "sr_f_weight must be finite and at least 0, not -1.0"),
        ({"warm_up": 25}, "warm_up must be a fraction of training in"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfRegulation(**options)


def test_features_are_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match="features=True"):
        total(outputs()._replace(features=[]), batch(), "feature")


def test_the_loss_of_the_own_output_can_be_any_callable() -> None:
    given, labels = tracked(outputs(18)), batch(18)
    dice = smp.losses.DiceLoss(mode="multiclass", ignore_index=VOID)
    plain = SelfRegulation()(given, labels, 1.0)
    found = SelfRegulation(own_loss=dice)(given, labels, 1.0)
    torch.testing.assert_close(found.per_exit["segmentation"][:-1], plain.per_exit["segmentation"][:-1])
    torch.testing.assert_close(found.per_exit["segmentation"][-1], dice(given.class_maps[-1], labels).detach())
    gradients = torch.autograd.grad(found.segmentation, given.class_maps[-1])
    torch.testing.assert_close(gradients, torch.autograd.grad(dice(given.class_maps[-1], labels), given.class_maps[-1]))


def test_an_own_loss_sees_logits_at_label_resolution_and_the_confidence() -> None:
    seen: list[Any] = []

    def own_loss(logits: Tensor, labels: Tensor, confidence: Tensor | None = None) -> Tensor:
        seen.append((logits.shape, labels.shape, confidence))
        return logits.mean()

    given, labels, confidence = outputs(19, grids=((4, 4), (2, 2))), batch(19), torch.ones(2, 8, 8)
    SelfRegulation(own_loss=own_loss)(given, labels, 0.0)
    SelfRegulation(own_loss=own_loss)(given, labels, 0.0, confidence=confidence)
    assert seen == [((2, K, 8, 8), (2, 8, 8), None), ((2, K, 8, 8), (2, 8, 8), confidence)]
    with pytest.raises(ValueError, match=r"own_loss must give a scalar, not \(2, 8, 8\)"):
        SelfRegulation(own_loss=lambda logits, _: logits[:, 0])(given, labels, 0.0)


@pytest.mark.parametrize(
    ("own_loss", "error"),
    [
        (lambda logits, labels: (logits.argmax(1) != labels).float().mean(), "without gradient"),
        (lambda logits, _: logits.detach().mean(), "without gradient"),
        (lambda logits, _: logits.mean().item(), "not float"),
        (lambda *_: None, "not NoneType"),
        (lambda logits, _: logits.argmax(1).sum(), "not torch.int64"),
    ],
)
def test_an_own_loss_that_could_not_train_is_refused(own_loss: Any, error: str) -> None:
    given, labels = tracked(outputs(18)), batch(18)
    with pytest.raises((TypeError, ValueError), match=f"own_loss .*{error}"):
        SelfRegulation(own_loss=own_loss)(given, labels, 0.0)


def test_an_own_loss_may_be_a_constant_where_nothing_is_valid() -> None:
    given, labels = tracked(outputs(18)), torch.full_like(batch(18), VOID)
    terms = SelfRegulation(own_loss=lambda logits, _: logits.new_zeros(()))(given, labels, 0.0)
    assert terms.total.requires_grad
    assert torch.isfinite(terms.total)


def test_an_own_loss_beside_the_networks_own_is_refused() -> None:
    given, labels = tracked(outputs(18)), batch(18)
    given = given._replace(network_loss=given.logits.mean())
    with pytest.raises(ValueError, match="the network computes the loss of its own output itself"):
        SelfRegulation(own_loss=lambda logits, _: logits.mean())(given, labels, 0.0)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_terms_of_each_exit_make_up_the_term(variant: Any, reduction: Any) -> None:
    given, labels = outputs(20), batch(20)
    terms = total(given, labels, variant, reduction=reduction)
    exits = {"segmentation": 4, "classification": 4, "local_presence": 4, "sr_f": 3, "sr_l": 3}
    assert {name: len(values) for name, values in terms.per_exit.items()} == exits
    for name, values in terms.per_exit.items():
        torch.testing.assert_close(values.sum() if reduction == "sum" else values.mean(), terms.raw()[name])
        assert not values.requires_grad
    assert set(SelfRegulation(variant)(given, labels, 0.0).per_exit) == {"segmentation", "classification"}


def test_each_value_of_a_term_is_of_the_exit_that_it_is_listed_for() -> None:
    given, labels = outputs(21), batch(21)
    changed = [*given.class_maps]
    changed[1] = changed[1] + torch.randn_like(changed[1])
    before, after = (total(each, labels).per_exit for each in (given, given._replace(class_maps=changed)))
    different = {name: (before[name] != after[name]).nonzero().flatten().tolist() for name in before}
    assert different == {"segmentation": [1], "classification": [], "local_presence": [1], "sr_f": [0], "sr_l": [1]}


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_class_weights_and_confidence_are_finite_and_not_negative(value: float) -> None:
    weights = torch.ones(K)
    weights[1] = value
    with pytest.raises(ValueError, match="class_weights must be finite and not negative"):
        SelfRegulation(class_weights=weights)
    labels = batch()
    confidence = torch.ones(labels.shape)
    confidence[0, 0, 0] = value
    with pytest.raises(ValueError, match="confidence must be finite and not negative"):
        SelfRegulation()(outputs(0), labels, 1.0, confidence=confidence)
