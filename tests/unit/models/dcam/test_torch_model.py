# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Dcam: what each gate can learn from each loss, and that prediction sees none of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anomalib_mkd import Dcam
from anomalib_mkd.functional import position_cosine_distance
from anomalib_mkd.models.dcam.attention import Attention, ChannelGate, SpatialGate
from anomalib_mkd.models.dcam.torch_model import DcamModel, raw
from tests.networks import pictures, settle


def model(**arguments: Any) -> DcamModel:
    torch.manual_seed(0)
    return Dcam(**{"pre_trained": False, "student_width": 1.0, **arguments}).model


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def levels(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (torch.rand(2, 16, 6, 8, generator=generator) for _ in range(2))
    return teacher, student


# ----------------------------------------------------------------------------------------------------------- the gates


@pytest.mark.parametrize(
    ("attention", "parameters"), [("channel", 21_504), ("spatial", 294), ("both", 21_798), ("none", 0)]
)
def test_gates_are_as_small_as_computed_by_hand(attention: str, parameters: int) -> None:
    built = model(attention=attention)
    assert count(built.gates) == parameters
    assert count(built.student) == count(built.teacher) == 2_782_784


def test_a_channel_gate_equals_its_formula() -> None:
    gate, (features, _) = ChannelGate(16), levels()
    first, last = (step.weight.flatten(1) for step in gate.shared if isinstance(step, nn.Conv2d))
    expected = sum((last @ (first @ summary.T).relu()).T for summary in (features.mean((2, 3)), features.amax((2, 3))))
    torch.testing.assert_close(gate(features).flatten(1), torch.as_tensor(expected).sigmoid())


def test_a_spatial_gate_equals_its_formula() -> None:
    gate, (features, _) = SpatialGate(), levels()
    summary = torch.stack([features.mean(1), features.amax(1)], dim=1)
    windows = nn.functional.unfold(summary, 7, padding=3)  # (N, 2 * 49, H * W)
    expected = (gate.convolution.weight.flatten() @ windows).sigmoid().view(2, 1, 6, 8)
    torch.testing.assert_close(gate(features), expected)


@pytest.mark.parametrize("attention", ["channel", "spatial"])
def test_a_gate_without_weights_halves_everything(attention: Any) -> None:
    """So the direction at each position stays what it was."""
    teacher, student = levels()
    gate = Attention(16, attention)
    for parameter in gate.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(gate(student), student / 2)
    expected = position_cosine_distance(teacher, student)
    torch.testing.assert_close(position_cosine_distance(teacher, gate(student)), expected)


def test_the_spatial_gate_sees_attended_channels() -> None:
    _, student = levels()
    both = Attention(16, "both")
    assert both.channel is not None
    assert both.spatial is not None
    by_channel = student * both.channel(student)
    torch.testing.assert_close(both(student), by_channel * both.spatial(by_channel))


# ------------------------------------------------------------------------------------------- which loss sees which gate


def gate_gradient(attention: str, **weights: Any) -> float:
    """Norm of the gradient at the gates, in float64 so that an exact zero shows."""
    built = model(attention=attention, **weights).double()
    settle(built.teacher.net)
    images = pictures(2, 64).double()
    built.loss(*built.pyramids(images))["loss"].backward()
    gradients = [parameter.grad for parameter in built.gates.parameters() if parameter.grad is not None]
    return float(torch.stack([gradient.norm() for gradient in gradients]).max())


COSINE: dict[str, float] = {"cosine_weight": 1.0, "kl_weight": 0.0, "raw_weight": 0.0}
DIVERGENCE: dict[str, float] = {"cosine_weight": 0.0, "kl_weight": 1.0, "raw_weight": 0.0}


def test_a_cosine_per_position_is_blind_to_a_gate_per_position() -> None:
    assert gate_gradient("spatial", **COSINE) < 1e-8
    assert gate_gradient("channel", **COSINE) > 1e-6


@pytest.mark.parametrize("attention", ["channel", "spatial"])
def test_the_divergence_sees_every_gate(attention: str) -> None:
    assert gate_gradient(attention, **DIVERGENCE) > 1e-6


# ------------------------------------------------------------------------------------------------------------ the loss


def test_terms_are_weighted_and_those_without_weight_are_not_computed() -> None:
    built = model(cosine_weight=2.0, kl_weight=3.0, raw_weight=0.5)
    parts = built.loss(*built.pyramids(pictures(2, 64)))
    expected = 2 * parts["cosine"] + 3 * parts["divergence"] + 0.5 * parts["raw"]
    torch.testing.assert_close(parts["loss"], expected)
    lean = model(kl_weight=0.0, raw_weight=0.0)
    assert lean.loss(*lean.pyramids(pictures(2, 64))).keys() == {"cosine", "loss"}


def test_without_gates_both_cosines_are_one_term() -> None:
    images, built = pictures(2, 64), model(attention="none", cosine_weight=2.0, raw_weight=0.5).eval()
    parts = built.loss(*built.pyramids(images))
    assert parts.keys() == {"cosine", "divergence", "loss"}
    torch.testing.assert_close(parts["loss"], 2.5 * parts["cosine"] + parts["divergence"])


def test_the_default_trains_what_prediction_compares() -> None:
    """A student whose attended features copy the teacher's, and whose raw ones do not, is far from done."""
    built = model(hard_share=1.0, kl_weight=0.0).eval()
    teacher, attended = built.pyramids(pictures(2, 64))
    attended |= {name: teacher[name] for name in built.teacher.layers}
    parts = built.loss(teacher, attended)
    assert parts["cosine"] < 1e-5
    assert parts["loss"] > 0.1


def test_the_raw_term_compares_what_no_gate_has_seen() -> None:
    built = model(hard_share=1.0).eval()
    images = pictures(2, 64)
    terms = built.loss.terms(*built.pyramids(images))
    teacher, student = built.teacher(images), built.student(images)
    expected = sum(position_cosine_distance(teacher[name], student[name]) for name in teacher)
    torch.testing.assert_close(terms["raw"], expected)
    assert (terms["cosine"] - terms["raw"]).abs().max() > 1e-6


def test_without_gate_divergence_and_raw_term_it_is_a_plain_cosine_student() -> None:
    built = model(attention="none", kl_weight=0.0, raw_weight=0.0, hard_share=1.0)
    images = pictures(2, 64)
    state = copy.deepcopy(built.student.state_dict())
    loss = built.loss(*built.pyramids(images))["loss"]
    built.student.load_state_dict(state)
    teacher, student = built.teacher(images), built.student(images)
    expected = torch.stack([position_cosine_distance(teacher[name], student[name]).mean() for name in teacher]).sum()
    torch.testing.assert_close(loss, expected)


def test_cosines_look_at_the_hardest_positions() -> None:
    built = model().eval()
    teacher, student = built.pyramids(pictures(2, 64))
    terms = built.loss.terms(teacher, student)
    for term, of in (("cosine", str), ("raw", raw)):
        names = [of(layer) for layer in built.teacher.layers]
        hardest = sum(position_cosine_distance(teacher[name], student[name], 0.1) for name in names)
        torch.testing.assert_close(terms[term], hardest)


def test_one_step_changes_student_and_gates_and_nothing_of_the_teacher() -> None:
    built = model().train()
    teacher = copy.deepcopy(built.teacher.state_dict())
    before = {name: value.clone() for name, value in built.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD(built.learned_parameters(), 1.0)
    for seed in range(2):  # timm starts each residual branch at zero: its convolutions learn from the second step on
        built.loss(*built.pyramids(pictures(2, 64, seed=seed)))["loss"].backward()
        optimizer.step()
    after = dict(built.named_parameters())
    assert all(not torch.equal(value, after[name]) for name, value in before.items())
    assert {name.split(".")[0] for name in before} == {"student", "gates"}
    assert all(torch.equal(value, teacher[name]) for name, value in built.teacher.state_dict().items())
    assert not built.teacher.training


# ---------------------------------------------------------------------------------------------------------- prediction


def test_prediction_does_not_depend_on_the_gates() -> None:
    built, images = model(attention="both").eval(), pictures(2, 64)
    expected = built(images)
    for parameter in built.gates.parameters():
        nn.init.normal_(parameter)
    assert torch.equal(built(images).anomaly_map, expected.anomaly_map)
    plain = model(attention="none").eval()(images)
    assert torch.equal(plain.anomaly_map, expected.anomaly_map)


def test_the_map_is_the_sum_of_three_enlarged_levels() -> None:
    built, images = model().eval(), pictures(2, 75, 97)
    result = built(images)
    assert result.anomaly_map.shape == (2, 1, 75, 97)
    assert result.anomaly_map.min() >= 0
    assert result.anomaly_map.max() <= 3  # no feature is negative
    highest = result.anomaly_map.flatten(1).sort(dim=1, descending=True).values[:, : 1 + (75 * 97 - 1) // 200]  # 0.5 %
    torch.testing.assert_close(result.pred_score, highest.mean(dim=1))
    built.score_share = 0.0
    torch.testing.assert_close(built(images).pred_score, result.anomaly_map.amax((1, 2, 3)))
    student: Any = built.student
    student.net.load_state_dict(built.teacher.net.state_dict())
    assert built(images).anomaly_map.max() < 1e-6


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"cosine_weight": 0.0, "kl_weight": 0.0, "raw_weight": 0.0},
            "Expected cosine_weight, kl_weight or raw_weight > 0, got 0 for all",
        ),
        ({"raw_weight": -1.0}, "Expected raw_weight >= 0"),
        ({"attention": "none", "raw_weight": -0.5}, "Expected raw_weight >= 0"),
        ({"kl_weight": float("nan")}, "Expected kl_weight >= 0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**arguments)


def test_a_layer_too_narrow_for_its_gate_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected layers of at least 8 channels for attention='channel', got 4"):
        ChannelGate(4)
