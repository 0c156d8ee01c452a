# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The students, the equality with anomalib's reverse distillation, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from torch import Tensor, nn

from anomalib_mkd.models.mmrd.priors import PRIOR_DIM
from anomalib_mkd.models.mmrd.torch_model import MmrdModel
from anomalib_mkd.networks.teacher import Teacher
from tests.networks import pictures, settle

if TYPE_CHECKING:
    from anomalib_mkd.models.mmrd.student import GuidedStudent

RESNET = "resnet18.tv_in1k"


DEFAULTS: dict[str, Any] = {
    "branches": "mmrd",
    "target_fusion": "concat",
    "modality_fusion": None,
    "num_prototypes": 8,
    "interaction": "intra_cross",
    "loss": "flat",
    "sigma": 4.0,
}


VALUES = {"rgb": 1.0, "aux": 3.0}


def make_model(backbone: str = RESNET, **arguments: Any) -> MmrdModel:
    torch.manual_seed(0)
    return MmrdModel(Teacher(backbone, pre_trained=False), **{**DEFAULTS, **arguments}).eval()


def pairs(count: int = 2, size: int = 64) -> Tensor:
    return torch.cat([pictures(count, size, seed=seed) for seed in (0, 1)], dim=1)


def test_a_branch_is_anomalibs_reverse_distillation() -> None:
    size = 96
    ours = make_model(branches="rgb", sigma=0).double()
    theirs = ReverseDistillationModel(
        "resnet18", (size, size), ["layer1", "layer2", "layer3"], AnomalyMapGenerationMode.ADD, pre_trained=False
    ).double()
    settle(ours.teacher)
    settle(ours.student)
    theirs.encoder.feature_extractor.load_state_dict(ours.teacher.net.state_dict())
    theirs.decoder.load_state_dict(ours.student.decoders["rgb"].state_dict())
    bottleneck = ours.student.bottlenecks["rgb"].state_dict()
    unused = theirs.bottleneck.load_state_dict(bottleneck, strict=False)
    assert {name.split(".")[0] for name in unused.missing_keys} == {"conv4", "bn4"}  # never run
    assert not unused.unexpected_keys
    images = pictures(3, size).double()

    loss = ours.loss(*ours.pyramids(images))["loss"]
    theirs.train()
    theirs.bottleneck.eval()
    theirs.decoder.eval()
    torch.testing.assert_close(loss, ReverseDistillationLoss()(*theirs(images)), atol=1e-9, rtol=0)

    theirs.eval()
    theirs.anomaly_map_generator.kernel_size, theirs.anomaly_map_generator.sigma = 1, 1e-3  # no blur
    expected = theirs(images)
    torch.testing.assert_close(ours(images).anomaly_map.float(), expected.anomaly_map, atol=1e-6, rtol=0)

    theirs.anomaly_map_generator.kernel_size, theirs.anomaly_map_generator.sigma = 33, 4
    ours.sigma, border = 4.0, 16  # where their blur mirrors the edge otherwise than SciPy, and we as SciPy
    inner = (..., slice(border, -border), slice(border, -border))
    torch.testing.assert_close(
        ours(images).anomaly_map[inner].float(), theirs(images).anomaly_map[inner], atol=1e-5, rtol=0
    )


def test_added_priors_begin_as_plain_distillation() -> None:
    model, images = make_model(), pairs()
    before = model(images).anomaly_map
    nn.init.normal_(model.student.priors["rgb"].prototypes)
    torch.testing.assert_close(model(images).anomaly_map, before, atol=0, rtol=0)
    nn.init.normal_(model.student.guides["rgb"].weight)
    assert not torch.allclose(model(images).anomaly_map, before)


def test_without_priors_the_modalities_are_restored_as_by_two_branches() -> None:
    model, branches = make_model(), make_model(branches="two_branch")
    for part in ("bottlenecks", "decoders"):
        getattr(branches.student, part).load_state_dict(getattr(model.student, part).state_dict())
    teacher = model.teacher(pairs())
    torch.testing.assert_close(model.student(teacher), branches.student(teacher), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"target_fusion": "mean"},
        {"target_fusion": "modulation", "interaction": "none"},
        {"loss": "flat+pixel", "interaction": "intra"},
    ],
    ids=lambda arguments: "-".join(map(str, arguments.values())) or "default",
)
def test_everything_that_learns_gets_a_gradient(arguments: dict[str, Any]) -> None:
    """Nothing is handed to the optimiser, and stored, that no forward pass reads."""
    model = make_model(**arguments).train()
    with torch.no_grad():
        for guide in model.student.guides.values():
            guide.weight.normal_()  # nothing behind a zero gets one
    model.loss(*model.pyramids(pairs()))["loss"].backward()
    # a bias on all keys alike cancels in the softmax, and its gradient is 0 but for rounding
    assert {n for n, p in model.student.named_parameters() if p.grad is None or not p.grad.abs().sum()} == set()
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_a_fused_target_is_the_fusion_at_each_layer() -> None:
    teacher = {f"{name} layer{n}": torch.full((1, 2, 2, 2), value) for n in (1, 2, 3) for name, value in VALUES.items()}
    for fusion, expected in (("mean", 2.0), ("modulation", 1 + 3 * torch.tensor(4.0).sigmoid().item())):
        targets = make_model(target_fusion=fusion).targets(teacher)
        assert set(targets) == {"layer1", "layer2", "layer3"}
        assert all(target.unique().item() == pytest.approx(expected) for target in targets.values())
    kept = make_model().targets(teacher)
    assert set(kept) == set(teacher)
    assert all(target.unique().item() == pytest.approx(0.5**0.5) for target in kept.values())  # of length 1


def test_two_branches_are_independent() -> None:
    model = make_model(branches="two_branch").train()
    teacher, student = model.pyramids(pairs())
    of_rgb = {name: features for name, features in student.items() if name.startswith("rgb")}
    model.loss(teacher, of_rgb)["loss"].backward()
    touched = {n.split(".")[1] for n, p in model.student.named_parameters() if p.grad is not None}
    assert touched == {"rgb"}


@pytest.mark.parametrize(("target_fusion", "alike"), [("concat", True), ("mean", True), ("modulation", False)])
def test_swapping_the_modalities_changes_nothing_but_for_modulation(target_fusion: str, *, alike: bool) -> None:
    """Photo and depth are swapped together with every part that belongs to them."""
    model = make_model(target_fusion=target_fusion)
    images = pairs()
    student: GuidedStudent = model.student
    with torch.no_grad():
        for guide in student.guides.values():
            guide.weight.copy_(0.1 * torch.randn(guide.weight.shape, generator=torch.Generator().manual_seed(0)))
    expected = model(images).anomaly_map
    parts = [student.bottlenecks, student.priors, student.decoders, student.guides]
    for group in [*parts, *student.interaction.steps.values()]:
        if "rgb" in group:
            group["rgb"], group["aux"] = group["aux"], group["rgb"]
    with torch.no_grad():
        for guide in student.guides.values():
            guide.weight.copy_(guide.weight.roll(PRIOR_DIM, dims=1))
    swapped = torch.cat(images.split(3, dim=1)[::-1], dim=1)
    assert torch.allclose(model(swapped).anomaly_map, expected, atol=1e-5, rtol=1e-4) is alike


def test_calibrated_maps_have_mean_0_and_peak_1_on_normal_images() -> None:
    model, images = make_model(sigma=0), pairs(4)
    model.calibrate([images])
    compared = model.compared(images, model.teacher(images))
    maps = torch.stack(model.modality_maps(*compared, images.shape[-2:])).flatten(2)
    torch.testing.assert_close(model.map_mean, maps.mean(dim=(1, 2)))
    torch.testing.assert_close(model.map_peak, torch.stack([modality.amax(dim=1).mean() for modality in maps]))
    scaled = (maps - model.map_mean[:, None, None]) / (model.map_peak - model.map_mean)[:, None, None]
    torch.testing.assert_close(model(images).anomaly_map.flatten(1), scaled.amax(dim=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"branches": "rgb", "target_fusion": "mean"}, "Expected target_fusion='concat'"),
        ({"branches": "rgb", "modality_fusion": "rss"}, "Expected no modality_fusion"),
        ({"target_fusion": "mean", "modality_fusion": "zmax"}, "Expected no modality_fusion"),
    ],
)
def test_refuses_arguments_that_exclude_each_other(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


@pytest.mark.parametrize("backbone", ["resnet34.a1_in1k", "resnet50", "resnext50_32x4d.a1h_in1k"])
def test_other_resnets_by_name_with_or_without_tag(backbone: str) -> None:
    teacher, student = make_model(backbone).eval().pyramids(pairs(1))
    assert {name: f.shape for name, f in student.items()} == {name: f.shape for name, f in teacher.items()}


def test_refuses_a_backbone_without_decoder() -> None:
    with pytest.raises(ValueError, match=r"decoder in anomalib.*got 'mobilenetv3_small_100'"):
        make_model("mobilenetv3_small_100")


def test_refuses_images_that_the_decoder_cannot_restore() -> None:
    with pytest.raises(ValueError, match=r"\(N, 6, H, W\).*multiples of 32.*got \(1, 6, 64, 80\)"):
        make_model()(torch.zeros(1, 6, 64, 80))
    with pytest.raises(ValueError, match=r"\(N, 6, H, W\)"):
        make_model()(torch.zeros(1, 3, 64, 64))
