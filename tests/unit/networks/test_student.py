# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Students of any width have the teacher's shapes; what cannot be narrowed is refused."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from anomalib_mkd.distillation.losses import PyramidLoss
from anomalib_mkd.functional import value_distance
from anomalib_mkd.networks.student import Student, narrow
from anomalib_mkd.networks.teacher import Teacher

RESNET18 = "resnet18.tv_in1k"


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_full_student_is_the_teacher_untrained() -> None:
    teacher = Teacher(RESNET18, pre_trained=False)
    student = Student(teacher, width=1.0)
    assert count(student) == count(teacher) == 2_782_784  # ResNet-18 up to layer3
    assert not student.heads
    assert all(parameter.requires_grad for parameter in student.parameters())
    student.net.load_state_dict(teacher.net.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for name, features in student.eval()(images).items():
        assert torch.equal(features, teacher(images)[name])


def test_the_taps_of_a_photo_of_256_pixels() -> None:
    with torch.no_grad():
        pyramid = Student(Teacher(RESNET18, pre_trained=False), width=0.25)(torch.zeros(1, 3, 256, 256))
    shapes = {name: tuple(features.shape[1:]) for name, features in pyramid.items()}
    assert shapes == {"layer1": (64, 64, 64), "layer2": (128, 32, 32), "layer3": (256, 16, 16)}


@pytest.mark.parametrize("backbone", [RESNET18, "mobilenetv3_small_050", "regnetx_002", "quickstart"])
@pytest.mark.parametrize("width", [1.0, 0.5, 0.25])
def test_shapes_are_the_teachers_at_any_size(backbone: str, width: float) -> None:
    """75 x 97 pixels: sizes round the same way in both networks."""
    teacher = Teacher(backbone, pre_trained=False)
    student = Student(teacher, width)
    images = torch.randn(2, 3, 75, 97)
    with torch.no_grad():
        expected = {name: features.shape for name, features in teacher(images).items()}
        assert {name: features.shape for name, features in student(images).items()} == expected
    assert len(student.heads) == (0 if width == 1 else len(teacher.layers))


def test_width_scales_every_layer_the_stem_included() -> None:
    """A quarter of the channels is a sixteenth of the weights, the image's three channels apart."""
    student = Student(Teacher(RESNET18, pre_trained=False), width=0.25)
    stem = student.net.get_submodule("conv1").get_parameter("weight")
    assert tuple(stem.shape) == (16, 3, 7, 7)
    assert [head.get_parameter("weight").shape[:2] for head in student.heads] == [(64, 16), (128, 32), (256, 64)]
    assert count(student.net) < 2_782_784 / 15


def test_a_narrow_layer_starts_with_the_variance_of_its_own_fan() -> None:
    layer = nn.Conv2d(64, 64, 3)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    narrow(layer, 0.25)
    assert layer.weight.shape == (16, 16, 3, 3)
    assert layer.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)


def test_a_narrow_network_trains() -> None:
    torch.manual_seed(0)
    teacher = Teacher(RESNET18, pre_trained=False)
    student = Student(teacher, width=0.25)
    images = torch.randn(4, 3, 64, 64)
    before = [parameter.detach().clone() for parameter in student.parameters()]
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    PyramidLoss(value=(value_distance, 1.0))(teacher(images), student(images))["loss"].backward()
    optimizer.step()
    # A zero-initialised last BatchNorm of a residual branch keeps its convolutions still for the first step.
    changed = [not torch.equal(old, new) for old, new in zip(before, student.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


@pytest.mark.parametrize(
    ("backbone", "width", "message"),
    [
        (RESNET18, 0.0, "Expected student_width > 0 and <= 1"),
        (RESNET18, 1.5, "Expected student_width > 0 and <= 1"),
        ("convnext_atto", 0.5, "Expected a backbone of convolutions and BatchNorms .* got the LayerNorm2d"),
        ("resnext50_32x4d", 0.3, "Expected a student_width that leaves channels divisible by the 32 groups"),
    ],
)
def test_what_cannot_be_narrowed_is_refused(backbone: str, width: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Student(Teacher(backbone, pre_trained=False), width)


def test_layers_that_no_longer_fit_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 22 channels 7 are left, of their concatenation 13, not 14."""

    class Concatenating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.both = nn.Conv2d(3, 22, 1), nn.Conv2d(3, 22, 1), nn.Conv2d(44, 64, 1, 4)

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [self.both(torch.cat([self.left(images), self.right(images)], dim=1))]

    teacher = Teacher(RESNET18, ["layer1"], pre_trained=False)
    monkeypatch.setattr(teacher, "build_network", Concatenating)
    with pytest.raises(ValueError, match="Expected a backbone whose layers can all be narrowed alike"):
        Student(teacher, width=0.3)


def test_the_names_of_narrowed_layers_are_timms() -> None:
    """Weights of a narrow student keep timm's names, so that they can be read elsewhere."""
    expected = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3)).state_dict().keys()
    assert Student(Teacher(RESNET18, pre_trained=False), width=0.5).net.state_dict().keys() == expected
