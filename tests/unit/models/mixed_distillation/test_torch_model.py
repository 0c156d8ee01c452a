# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mixed distillation: equal to anomalib's Stfpm without its paths, and what each path reaches with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.models.components import TimmFeatureExtractor
from anomalib.models.image.stfpm import Stfpm, torch_model
from torch import Tensor, nn

from anomalib_mkd import MixedDistillation
from anomalib_mkd.functional import position_cosine_distance
from tests.networks import pictures, settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anomalib_mkd.models.mixed_distillation.torch_model import MixedDistillationModel

RESNET18 = "resnet18.tv_in1k"
NO_PATHS: dict[str, Any] = {"skip_weight": 0.0, "symmetric_weight": 0.0}


def model(**arguments: Any) -> MixedDistillationModel:
    torch.manual_seed(0)
    return MixedDistillation(**{"pre_trained": False, "student_width": 1.0, **arguments}).model


def copy_teacher(built: MixedDistillationModel) -> None:
    """Make the student equal to the teacher, whose statistics are not those of an untrained network."""
    settle(built.teacher.net)
    student: Any = built.student
    student.net.load_state_dict(built.teacher.net.state_dict())


def gradients(built: MixedDistillationModel, term: str) -> dict[str, float]:
    """Norm of the gradient of one term of the loss at each child of the student's network."""
    parts = built.loss.terms(*built.pyramids(pictures(2, 64)))
    parts[term].sum().backward()  # type: ignore[no-untyped-call]
    norms: dict[str, float] = {}
    for name, parameter in built.student.named_parameters():
        child = name.split(".")[1]
        norm = 0.0 if parameter.grad is None else parameter.grad.norm().item()
        norms[child] = norms.get(child, 0.0) + norm
    return norms


# ------------------------------------------------------------------------------------------------ without paths: STFPM


@pytest.fixture
def stfpm(monkeypatch: pytest.MonkeyPatch) -> Stfpm:
    """Anomalib's own, whose teacher is not downloaded."""

    def untrained(*arguments: Any, **options: Any) -> TimmFeatureExtractor:
        return TimmFeatureExtractor(*arguments, **{**options, "pre_trained": False})

    monkeypatch.setattr(torch_model, "TimmFeatureExtractor", untrained)
    return Stfpm(backbone=RESNET18)


def stfpm_like(**arguments: Any) -> MixedDistillation:
    return MixedDistillation(
        student_width=1.0,
        hard_share=1.0,
        score_share=0.0,
        optimizer="sgd",
        learning_rate=0.4,
        weight_decay=1e-3,
        schedule="constant",
        level_fusion="product",
        **NO_PATHS,
        **arguments,
    )


def train(built: Any, loss_of: Callable[[Any, Tensor], Tensor], batches: list[Tensor]) -> Tensor:
    optimizer = built.configure_optimizers()
    built.train()
    losses = []
    for images in batches:
        loss = loss_of(built, images)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def anomalibs_loss(built: Any, images: Tensor) -> Tensor:
    """Anomalib's Stfpm sums 1 - cos over the batch, where its authors and we take the mean of 2 (1 - cos)."""
    loss: Tensor = built.model.loss(*built.model.pyramids(images))["loss"] * len(images) / 2
    return loss


def compare(theirs: Any, ours: Any, batches: list[Tensor]) -> None:
    """Train both for one step per batch, and compare losses, weights, statistics, maps and scores."""
    theirs.to(batches[0].dtype)
    ours.to(batches[0].dtype)
    student = theirs.model.student_model.feature_extractor
    theirs.model.teacher_model.feature_extractor.load_state_dict(ours.model.teacher.net.state_dict())
    student.load_state_dict(ours.model.student.net.state_dict())
    their_losses = train(theirs, lambda built, images: built.loss(*built.model(images)), batches)
    our_losses = train(ours, anomalibs_loss, batches)
    torch.testing.assert_close(our_losses, their_losses, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.model.student.net.state_dict(), student.state_dict(), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        expected, actual = theirs.eval().model(batches[0]), ours.eval().model(batches[0])
    expected_map = expected.anomaly_map.to(actual.anomaly_map)  # theirs is always float32
    torch.testing.assert_close(actual.anomaly_map, expected_map, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.pred_score, expected_map.amax((1, 2, 3)), rtol=0, atol=1e-5)


def test_without_paths_it_is_anomalibs_stfpm(stfpm: Stfpm) -> None:
    """Three steps in float64: at a learning rate of 0.4 the rounding of float32 would grow with every step."""
    ours = stfpm_like(pre_trained=False)
    settle(ours.model.teacher.net)
    compare(stfpm, ours, [pictures(4, 64, seed=seed).double() for seed in range(3)])


@pytest.mark.real
@pytest.mark.slow
def test_without_paths_it_is_anomalibs_stfpm_on_imagenet_weights(stfpm: Stfpm, shared: Callable[[str], Path]) -> None:
    ours = stfpm_like(weights=shared("weights/resnet18_tv_in1k_layers1-3_f16.safetensors"))
    ours.model.teacher.prepare()
    compare(stfpm, ours, [pictures(2, 128, seed=seed).double() for seed in range(3)])


# ------------------------------------------------------------------------------------------------------------ the loss


def test_an_opposite_direction_costs_what_stfpms_authors_say() -> None:
    """Vectors at right angles everywhere: a squared distance of 2 per level, for any size of batch."""
    teacher = {name: torch.zeros(4, 2, 2, 2) for name in ("layer1", "layer2", "layer3")}
    for features in teacher.values():
        features[:, 0] = 1.0
    student = {name: 1.0 - features for name, features in teacher.items()}
    assert model(**NO_PATHS).loss(teacher, student)["loss"].item() == 3 * 2.0


def test_the_total_is_the_weighted_sum_of_base_and_paths() -> None:
    built = model(skip_weight=0.3, symmetric_weight=0.7)
    parts = built.loss(*built.pyramids(pictures(2, 64)))
    expected = 2 * (parts["base"] + 0.3 * parts["skip"] + 0.7 * parts["symmetric"])
    torch.testing.assert_close(parts["loss"], expected)


# ----------------------------------------------------------------------------------------------------------- the paths


def test_a_symmetric_path_reaches_the_shallow_stages_only() -> None:
    norms = gradients(model(), "symmetric")
    assert norms["conv1"] > 0
    assert norms["layer1"] > 0
    assert norms["layer2"] == norms["layer3"] == 0


def test_a_skip_path_reaches_every_stage() -> None:
    assert min(gradients(model(), "skip").values()) > 0


def test_an_identity_adapter_compares_the_averaged_level_itself() -> None:
    built = model(symmetric_weight=0.0)
    adapter = built.get_submodule("paths.skip.adapters.0")
    teacher = {"layer1": torch.rand(2, 64, 16, 16), "layer3": torch.rand(2, 256, 4, 4)}
    student = {"layer3": torch.zeros(2, 256, 4, 4)}
    student["layer3"][:, :64] = nn.functional.avg_pool2d(teacher["layer1"], 4)
    with torch.no_grad():
        adapter.get_parameter("weight").copy_(torch.eye(64, 256)[:, :, None, None])
        adapter.get_parameter("bias").zero_()
        targets, adapted = built.paths["skip"](teacher, student)
    torch.testing.assert_close(adapted, targets)


def test_a_copy_of_the_teacher_still_has_its_adapters_to_learn() -> None:
    built = model().eval()
    copy_teacher(built)
    parts = built.loss(*built.pyramids(pictures(2, 64)))
    assert parts["base"] < 1e-6
    assert parts["skip"] > 0.01
    assert parts["symmetric"] > 0.01
    assert built(pictures(2, 64)).anomaly_map.max() < 1e-6


def test_paths_compare_at_the_size_of_the_deep_level() -> None:
    built = model()
    pyramids = built.teacher(pictures(1, 64, 96)), built.student(pictures(1, 64, 96))
    for path in built.paths.values():
        assert {tuple(features.shape[-2:]) for pyramid in path(*pyramids) for features in pyramid.values()} == {(4, 6)}


def test_adapters_are_as_small_as_computed_by_hand() -> None:
    sizes = {kind: sum(p.numel() for p in path.parameters()) for kind, path in model().paths.items()}
    assert sizes == {"skip": 256 * 64 + 64, "symmetric": 64 * 256 + 256}


def test_a_path_without_weight_does_not_exist() -> None:
    assert not [name for name in model(**NO_PATHS).state_dict() if name.startswith("paths")]
    names = [name for name in model(skip_weight=0.0).state_dict() if name.startswith("paths")]
    assert names
    assert all(name.startswith("paths.symmetric.") for name in names)


def test_the_student_of_a_seed_is_the_same_with_and_without_paths() -> None:
    plain, mixed = model(**NO_PATHS).student.state_dict(), model().student.state_dict()
    assert all(torch.equal(plain[name], mixed[name]) for name in plain)


def test_only_student_and_adapters_learn() -> None:
    built = model()
    assert set(built.learned_parameters()) == {*built.student.parameters(), *built.paths.parameters()}


# ------------------------------------------------------------------------------------------------------------- the map


def test_the_order_of_the_layers_does_not_matter() -> None:
    reordered = model(layers=["layer3", "layer1", "layer2"]).eval()
    assert torch.equal(reordered(pictures(1, 64)).anomaly_map, model().eval()(pictures(1, 64)).anomaly_map)


def test_odd_and_oblong_images() -> None:
    built = model()
    built.loss(*built.pyramids(pictures(2, 75, 97)))["loss"].backward()
    result = built.eval()(pictures(1, 75, 97))
    assert result.anomaly_map.shape == (1, 1, 75, 97)
    assert result.anomaly_map.mean() < result.pred_score < result.anomaly_map.max()


# -------------------------------------------------------------------------------------------------------------- errors


def test_paths_between_levels_need_two_of_them() -> None:
    with pytest.raises(ValueError, match=r"Expected skip_weight and symmetric_weight to be 0 with a single layer, got"):
        model(layers=["layer2"])


def test_a_single_layer_has_no_paths() -> None:
    assert not model(layers=["layer2"], **NO_PATHS).paths


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_of_positions_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="Expected hard_share > 0 and <= 1, got"):
        MixedDistillation(pre_trained=False, hard_share=share)


def test_levels_and_paths_average_the_hardest_positions() -> None:
    built, images = model().eval(), pictures(2, 64)
    teacher, student = built.pyramids(images)
    terms = built.loss.terms(teacher, student)
    expected = {
        "base": [(teacher[name], student[name]) for name in built.teacher.layers],
        **{
            kind: [(targets[name], adapted[name]) for name in targets]
            for kind, (targets, adapted) in ((k, path(teacher, student)) for k, path in built.paths.items())
        },
    }
    assert set(terms) == set(expected) == {"base", "skip", "symmetric"}
    for name, pairs in expected.items():
        hardest = torch.stack([position_cosine_distance(t, s, 0.1) for t, s in pairs]).sum(dim=0)
        torch.testing.assert_close(terms[name], hardest)
        every = torch.stack([position_cosine_distance(t, s) for t, s in pairs]).sum(dim=0)
        assert (terms[name] > every).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_the_map_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="Expected score_share >= 0 and <= 1, got"):
        MixedDistillation(pre_trained=False, score_share=share)
