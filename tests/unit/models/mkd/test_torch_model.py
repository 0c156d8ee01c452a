# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Score and map of MKD as the network gives them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from scipy.ndimage import gaussian_filter
from torch import Tensor

from anomalib_mkd import Mkd
from anomalib_mkd.models.mkd.torch_model import SMOOTH_GRAD_COPIES, MkdModel
from tests.networks import copy_teacher, pictures, settle

SMALL_RESNET = "resnet10t.c3_in1k"
LAYERS = ("pool2", "pool3", "pool4", "pool5")


def tiny_model(backbone: str = "quickstart", **arguments: Any) -> MkdModel:
    """A model with random weights and BatchNorm statistics as after a training."""
    torch.manual_seed(0)
    settings = {"map_layers": None, "map_scaling": "none", "value_weight": 0.5, **arguments}
    model = Mkd(backbone, pre_trained=False, **settings).model
    settle(model.student)
    return model.eval()


def predict(model: MkdModel, images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        prediction = model(images)
    return prediction.pred_score, prediction.anomaly_map


# ---------------------------------------------------------------------------------------------------------------- score


def test_four_levels_are_learned_and_three_predict() -> None:
    model = tiny_model()
    assert model.score_layers == LAYERS[1:]
    teacher = model.teacher(pictures(2, 64))
    student = {**teacher, "pool2": teacher["pool2"] + 1}
    assert model.loss.per_image(teacher, student, model.score_layers).abs().max() < 1e-5
    assert model.loss(teacher, student)["loss"] > 0.1


def test_the_score_is_the_loss_before_the_mean_over_the_batch() -> None:
    model = tiny_model(score_layers=LAYERS)
    images = pictures(3, 64)
    torch.testing.assert_close(predict(model, images)[0].mean(), model.loss(*model.pyramids(images))["loss"].detach())


@pytest.mark.parametrize("student", ["smaller", "equal"])
@pytest.mark.parametrize("scaling", ["none", "per_image_p99"])
def test_an_image_scores_alone_as_in_a_batch(student: str, scaling: str) -> None:
    model, images = tiny_model(student=student, map_scaling=scaling), pictures(5, 64)
    scores, maps = predict(model, images)
    for index, image in enumerate(images.split(1)):
        score, anomaly_map = predict(model, image)
        torch.testing.assert_close(score[0], scores[index], rtol=1e-6, atol=0)
        assert (anomaly_map[0] - maps[index]).abs().max() < 1e-6 * max(1.0, maps.max().item())


@pytest.mark.parametrize("detach", [True, False])
def test_a_perfect_student_finds_nothing(detach: bool) -> None:
    model = tiny_model(student="equal", detach_teacher=detach)
    images = pictures(2, 64)
    copy_teacher(model)
    score, anomaly_map = predict(model.double(), images.double())
    assert score.abs().max() < 1e-9
    assert anomaly_map.abs().max() < 1e-9


def test_direction_only_ignores_how_strong_features_are() -> None:
    model = tiny_model(value_weight=0.0)
    teacher = model.teacher(pictures(2, 64))
    stronger = {name: 3 * features for name, features in teacher.items()}
    assert model.loss.per_image(teacher, stronger).abs().max() < 1e-5


def test_the_map_is_of_the_second_layer_by_default_and_the_score_of_its_own() -> None:
    """The gradient of the discrepancy at the map layers alone, which are not those of the score."""
    assert Mkd("quickstart", pre_trained=False).model.map_layers == LAYERS[1:2]
    assert tiny_model(layers=["pool4"], map_layers="second").map_layers == ("pool4",)
    model = tiny_model(score_layers=["pool5"], map_layers=["pool4", "pool2"]).double()
    assert model.map_layers == ("pool2", "pool4")
    images = pictures(2, 64).double()
    score, gradient = model.score_and_gradient(images)
    variable = images.clone().requires_grad_()
    pyramids = model.compared(variable, model.teacher(images))
    torch.testing.assert_close(score, model.loss.per_image(*pyramids, ["pool5"]))
    model.loss.per_image(*pyramids, ["pool2", "pool4"]).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(gradient, variable.grad)


def test_score_layers_can_be_chosen_and_come_sorted() -> None:
    model = tiny_model(score_layers=["pool5", "pool2"])
    assert model.score_layers == ("pool2", "pool5")
    images = pictures(2, 64)
    teacher, student = model.pyramids(images)
    torch.testing.assert_close(
        predict(model, images)[0], model.loss.per_image(teacher, student, ["pool2", "pool5"]).detach()
    )


def test_a_single_layer_is_learned_and_predicts() -> None:
    model = tiny_model(layers=["pool3"])
    assert model.score_layers == ("pool3",)
    assert predict(model.eval(), pictures(1, 64))[1].shape == (1, 1, 64, 64)


@pytest.mark.parametrize("score_layers", [["pool1"], ["pool3", "layer1"], []])
def test_score_layers_that_are_no_layers_are_refused(score_layers: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"score_layers among the layers, got .*Choose from \['pool2', 'pool3', 'pool4', 'pool5'\]"
    ):
        tiny_model(score_layers=score_layers)


def test_balanced_terms_are_of_one_size() -> None:
    model, images = tiny_model(), pictures(4, 64)
    model.balance_terms(images, model.teacher(images))
    parts = model.loss(*model.pyramids(images))
    direction_weight, value_weight = model.loss.weights
    assert direction_weight == 1
    torch.testing.assert_close(value_weight * parts["value"], parts["direction"])


# ------------------------------------------------------------------------------------------------------------------ map


@pytest.mark.parametrize("size", [(32, 32), (50, 71), (96, 160), (128, 128)])
def test_the_map_has_the_images_size(size: tuple[int, int]) -> None:
    score, anomaly_map = predict(tiny_model(), pictures(2, *size))
    assert score.shape == (2,)
    assert anomaly_map.shape == (2, 1, *size)
    assert score.min() >= 0
    assert anomaly_map.min() >= 0
    assert anomaly_map.max() > 0


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scaling", ["none", "per_image_p99"])
@pytest.mark.parametrize("localization", ["gradients", "guided"])
def test_constant_images_get_finite_predictions(level: float, scaling: str, localization: str) -> None:
    model = tiny_model(map_scaling=scaling, localization=localization, detach_teacher=False)
    score, anomaly_map = predict(model, torch.full((2, 3, 64, 64), level))
    assert score.isfinite().all()
    assert anomaly_map.isfinite().all()
    assert anomaly_map.max() <= 1e3


def test_the_map_is_the_gradients_size_blurred_and_opened() -> None:
    images = pictures(2, 64)
    plain = tiny_model(sigma=0.0, opening=False)
    with torch.inference_mode():
        strength = plain.score_and_gradient(images)[1].abs().sum(1, keepdim=True)
    assert torch.equal(predict(plain, images)[1], strength)
    blurred = predict(tiny_model(sigma=2.0, opening=False), images)[1]
    for one, expected in zip(blurred[:, 0], strength[:, 0], strict=True):
        torch.testing.assert_close(one, torch.from_numpy(gaussian_filter(expected.numpy(), 2.0)), rtol=1e-4, atol=1e-6)
    opened = predict(tiny_model(sigma=2.0, opening=True), images)[1]
    assert (opened <= blurred).all()
    assert (opened < blurred).any()


def test_the_papers_scaling_gives_every_image_the_same_peak() -> None:
    model = tiny_model(map_scaling="per_image_p99", sigma=0.0, opening=False)
    _, anomaly_map = predict(model, torch.cat((pictures(1, 64), pictures(1, 64).mul(0.1).add(0.45))))
    assert anomaly_map.amax((1, 2, 3)).tolist() == [1, 1]
    assert ((anomaly_map == 1).flatten(1).float().mean(1) < 0.02).all()


def test_by_default_images_keep_their_strength_on_a_scale_of_normal_ones() -> None:
    normal = pictures(8, 64)
    plain, scaled = tiny_model(), tiny_model(map_scaling="train_quantile")
    scaled.calibrate_map(normal.split(3))
    maps = predict(scaled, normal)[1]
    assert (maps <= 1).float().mean().item() == pytest.approx(0.999, abs=1.5 / maps.numel())
    other = pictures(2, 64, seed=1)
    torch.testing.assert_close(predict(scaled, other)[1] * scaled.map_scale, predict(plain, other)[1])


def test_calibration_repeats_and_leaves_other_scalings_alone() -> None:
    model, normal = tiny_model(map_scaling="train_quantile"), pictures(4, 64)
    model.calibrate_map([normal])
    first = model.map_scale.clone()
    model.calibrate_map([normal])
    assert torch.equal(model.map_scale, first)
    for scaling in ("none", "per_image_p99"):
        other = tiny_model(map_scaling=scaling)
        other.calibrate_map([normal])
        assert other.map_scale == 1


def test_calibration_on_a_student_without_error_stays_finite() -> None:
    model = tiny_model(student="equal", map_scaling="train_quantile", value_weight=0.5)
    copy_teacher(model)
    black = torch.zeros(1, 3, 64, 64)
    model.calibrate_map([black])
    assert predict(model, black)[1].isfinite().all()


def test_guided_and_plain_maps_differ_and_scores_do_not() -> None:
    images = pictures(2, 64)
    (score, plain), (same, guided) = (
        predict(tiny_model(localization=name), images) for name in ("gradients", "guided")
    )
    assert torch.equal(score, same)
    assert not torch.allclose(plain, guided)


def test_the_way_through_the_teacher_changes_the_map_and_not_the_score() -> None:
    images = pictures(2, 64)
    (score, detached), (same, whole) = (predict(tiny_model(detach_teacher=value), images) for value in (True, False))
    torch.testing.assert_close(score, same)
    assert not torch.allclose(detached, whole)


@pytest.mark.parametrize("scaling", ["none", "per_image_p99"])
def test_smooth_grad_repeats_and_leaves_the_random_numbers_alone(scaling: str) -> None:
    model, images = tiny_model(localization="smooth_grad", map_scaling=scaling), pictures(2, 32)
    state = torch.get_rng_state()
    first, second = predict(model, images)[1], predict(model, images)[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    torch.testing.assert_close(first[1:], predict(model, images[1:])[1])  # whatever its place in a batch
    assert not torch.allclose(first, predict(tiny_model(map_scaling=scaling), images)[1])


def test_smooth_grad_draws_its_noise_on_the_cpu_wherever_the_images_are() -> None:
    model = tiny_model(localization="smooth_grad").to("meta")  # which has no random numbers of its own
    assert predict(model, pictures(2, 32).to("meta"))[1].shape == (2, 1, 32, 32)


def test_smooth_grad_is_the_mean_over_noisy_copies() -> None:
    model = tiny_model(localization="smooth_grad", sigma=0.0, opening=False)
    images = pictures(1, 32)
    generator = torch.Generator().manual_seed(0)
    deviation = (0.05 / (images.max() - images.min())) ** 2  # 0.0025 for a full-range image, as in the authors' code
    assert deviation.item() == pytest.approx(0.0025)
    total = torch.zeros(1, 1, 32, 32)
    with torch.inference_mode():
        for _ in range(SMOOTH_GRAD_COPIES):
            noisy = images + deviation * torch.randn(images.shape, generator=generator)
            total += model.score_and_gradient(noisy)[1].abs().sum(1, keepdim=True)
    torch.testing.assert_close(predict(model, images)[1], total / 50)


# ------------------------------------------------------------------------------------------------------- other sources


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        (SMALL_RESNET, ("layer1", "layer2", "layer3")),
        ("mobilenetv3_small_050.lamb_in1k", ("blocks.0", "blocks.1", "blocks.3")),
        ("efficientnet_b0.ra_in1k", ("blocks.1", "blocks.2", "blocks.4")),
    ],
)
def test_any_cnn_can_be_the_teacher(backbone: str, layers: tuple[str, ...]) -> None:
    model, images = tiny_model(backbone), pictures(2, 64, 96)
    assert model.teacher.layers == layers
    assert model.score_layers == layers[1:]
    score, anomaly_map = predict(model, images)
    assert score.shape == (2,)
    assert anomaly_map.shape == (2, 1, 64, 96)
    assert score.isfinite().all()
    assert anomaly_map.isfinite().all()


def test_a_resnets_map_is_the_gradient_through_the_student() -> None:
    model = tiny_model(SMALL_RESNET).double()
    images = pictures(2, 64).double()
    _, gradient = model.score_and_gradient(images)
    variable = images.clone().requires_grad_()
    model.loss.per_image(*model.pyramids(variable), model.score_layers).sum().backward()
    assert variable.grad is not None
    torch.testing.assert_close(gradient.detach(), variable.grad, rtol=1e-9, atol=1e-12)


def test_a_resnet_has_no_written_out_way_back() -> None:
    with pytest.raises(ValueError, match=r"detach_teacher=True with the backbone 'resnet10t.c3_in1k', got False.*VGG"):
        tiny_model(SMALL_RESNET, detach_teacher=False)


@pytest.mark.parametrize("reverted", [False, True])
def test_norms_of_several_processes_predict_the_same(reverted: bool) -> None:
    """As with Lightning's ``sync_batchnorm``, whose layers replace a model's, and are replaced when a run ends."""
    model, plugin = tiny_model().eval(), TorchSyncBatchNorm()
    expected = predict(model, pictures(2, 64))
    plugin.apply(model)
    if reverted:
        plugin.revert(model)
    for found, value in zip(predict(model.eval(), pictures(2, 64)), expected, strict=True):
        torch.testing.assert_close(found, value)


def test_an_image_under_32_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"H, W >= 32, got \(1, 3, 31, 31\)"):
        tiny_model()(torch.zeros(1, 3, 31, 31))


def test_sides_that_teacher_and_student_would_round_differently_are_refused() -> None:
    model = tiny_model("resnet18.tv_in1k")
    model.pyramids(pictures(1, 48, 64))
    with pytest.raises(ValueError, match=r"H, W >= 32 and multiples of 16, got \(1, 3, 50, 64\)"):
        model.pyramids(pictures(1, 50, 64))


# --------------------------------------------------------------------------------------------- the scale of the teacher


def features(seed: int) -> dict[str, Tensor]:
    """Levels of different strength, the one of ``pool4`` dead."""
    random = torch.Generator().manual_seed(seed)
    levels = {name: torch.randn(2, 4, 3, 3, generator=random).abs() * 10**index for index, name in enumerate(LAYERS)}
    levels["pool4"][:] = 0
    return levels


def compared(model: MkdModel, teacher: dict[str, Tensor], student: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Score, and its gradient at the student's ``pool5``, of features in place of those of the networks."""
    student["pool5"].requires_grad_()
    pyramids = [model._in_units(each) for each in (teacher, student)]
    score = model.loss.per_image(*pyramids)
    (gradient,) = torch.autograd.grad(score.sum(), student["pool5"])
    torch.testing.assert_close(model._arriving(*pyramids)["pool5"], gradient)
    return score.detach(), gradient


@pytest.mark.parametrize("relative", [True, False])
def test_a_relative_value_does_not_depend_on_the_scale_of_levels(relative: bool) -> None:
    model = tiny_model(relative_value=relative)
    model.measure(features(0))
    score, gradient = compared(model, features(0), features(1))
    scale = {"pool2": 10.0, "pool3": 0.1, "pool4": 1.0, "pool5": 100.0}
    teacher, student = ({name: scale[name] * level for name, level in features(seed).items()} for seed in (0, 1))
    model.measure(teacher)
    other, other_gradient = compared(model, teacher, student)
    assert torch.allclose(score, other, rtol=1e-5) == relative
    assert torch.allclose(gradient, 100 * other_gradient, rtol=1e-4) == relative


def test_each_level_of_an_untrained_student_counts_alike_in_value() -> None:
    model = tiny_model(value_weight=1.0, direction_weight=0.0)
    teacher = {name: level.clamp_min(0.01) for name, level in features(0).items()}
    nothing = {name: torch.zeros_like(level) for name, level in teacher.items()}
    model.measure(teacher)
    assert compared(model, teacher, nothing)[0].mean().item() == pytest.approx(4)


def test_an_image_of_stronger_features_scores_higher() -> None:
    """A unit per image would make it equal to the others."""
    model = tiny_model(value_weight=1.0, direction_weight=0.0)
    teacher = {name: level.clamp_min(0.01) for name, level in features(0).items()}
    model.measure(teacher)
    teacher["pool3"][1] = 3 * teacher["pool3"][0]
    student = {name: 0.5 * level for name, level in teacher.items()}
    pyramids = [model._in_units(each) for each in (teacher, student)]
    first, second = model.loss.per_image(*pyramids, ["pool3"])
    assert second.item() == pytest.approx(9 * first.item())


# ------------------------------------------------------------------------------------------------------------- the loss

TEACHER = {"pool5": torch.tensor([[1.0, 0, 0], [0, 0, 3]]).view(2, 3, 1, 1)}
STUDENT = {"pool5": torch.tensor([[1.0, 0, 0], [0, 2, 0]]).view(2, 3, 1, 1)}


def test_the_loss_by_hand() -> None:
    parts = tiny_model(layers=["pool5"]).loss(TEACHER, STUDENT)
    assert parts["loss"].item() == pytest.approx(1.58333333)
    assert parts["direction"].item() == pytest.approx(0.5)
    assert parts["value"].item() == pytest.approx((4 + 9) / 3 / 2)


@pytest.mark.parametrize(("weights", "expected"), [((1.0, 0.0), 0.5), ((0.0, 1.0), 13 / 6), ((2.0, 0.5), 1 + 13 / 12)])
def test_each_term_can_be_weighted_and_left_out(weights: tuple[float, float], expected: float) -> None:
    model = tiny_model(layers=["pool5"], direction_weight=weights[0], value_weight=weights[1])
    assert model.loss(TEACHER, STUDENT)["loss"].item() == pytest.approx(expected)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
def test_the_gradient_has_the_weights_of_the_loss(weights: tuple[float, float]) -> None:
    """The written-out way back against autograd, whatever is weighted or left out."""
    model = tiny_model(direction_weight=weights[0], value_weight=weights[1]).double()
    images = pictures(2, 64).double().requires_grad_()
    score = model.loss.per_image(*model.compared(images, model.teacher(images.detach())), model.score_layers)
    score.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.score_and_gradient(images.detach())[1], images.grad)
