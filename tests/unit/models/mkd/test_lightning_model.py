# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mkd's arguments, defaults and refusals; how it lives is in ``tests/integration`` and ``tests/contract``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib import LearningType
from anomalib.deploy import CompressionType
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_mkd import Mkd
from anomalib_mkd.networks.chain import Chain
from tests.networks import pictures

if TYPE_CHECKING:
    from pathlib import Path

OFF: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}


def tiny(**arguments: Any) -> Mkd:
    return Mkd(**{"backbone": "quickstart", "pre_trained": False, **OFF, **arguments})


# ------------------------------------------------------------------------------------------------------------ defaults


def test_the_default_is_the_papers_pair_of_networks() -> None:
    model = Mkd(pre_trained=False)
    assert model.model.teacher.backbone == "vgg16.tv_in1k"
    assert sum(parameter.numel() for parameter in model.model.teacher.parameters()) == 14_714_688
    assert sum(parameter.numel() for parameter in model.model.learned_parameters()) == 343_984
    assert model.model.score_layers == ("pool3", "pool4", "pool5")
    assert model.model.detach_teacher
    assert model.learning_type is LearningType.ONE_CLASS
    assert model.trainer_arguments == {"num_sanity_val_steps": 0}  # never a length: the user's own must win


def transforms(model: Mkd) -> list[Any]:
    assert isinstance(model.pre_processor, PreProcessor)
    transform = model.pre_processor.transform
    return list(transform.transforms) if isinstance(transform, Compose) else [transform]


def test_a_vgg_sees_128_pixels_without_normalisation() -> None:
    (resize,) = transforms(tiny())
    assert isinstance(resize, Resize)
    assert list(resize.size) == [128, 128]
    assert resize.antialias


def test_another_network_sees_256_pixels_with_imagenets_normalisation() -> None:
    resize, normalize = transforms(tiny(backbone="resnet10t.c3_in1k"))
    assert list(resize.size) == [256, 256]
    assert isinstance(normalize, Normalize)
    assert (normalize.mean, normalize.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_size_and_normalisation_are_an_argument() -> None:
    usual = Mkd.configure_pre_processor((64, 96), imagenet=True)
    model = Mkd("vgg11.tv_in1k", pre_trained=False, pre_processor=usual)
    resize, _ = transforms(model)
    assert list(resize.size) == [64, 96]
    with torch.inference_mode():
        assert model.eval()(pictures(1, 200)).anomaly_map.shape == (1, 1, 64, 96)
    assert tiny(pre_processor=False).pre_processor is None


def test_adam_learns_the_student_and_nothing_else() -> None:
    model = tiny(schedule="constant", learning_rate=1e-3)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 0)
    assert set(group["params"]) == set(model.model.student.parameters())


def test_the_hyper_parameters_are_plain_data() -> None:
    model = tiny(weights=None, value_weight=0.5)
    assert model.hparams["value_weight"] == 0.5
    assert model.model.loss.weights.tolist() == [1.0, 0.5]
    assert not {"pre_processor", "post_processor", "evaluator", "visualizer"} & set(model.hparams)
    assert isinstance(model.model.teacher.net, Chain)


def test_a_value_weight_of_0_needs_no_balance() -> None:
    model = tiny(value_weight=0, relative_value=False)
    assert model.model.loss.weights.tolist() == [1.0, 0.0]
    assert model.balanced


def test_a_path_names_weights_as_a_string_does(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    assert Mkd(weights=path).model.teacher.weights == str(path)


# --------------------------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value_weight": 0, "direction_weight": 0}, r"not both 0, .*, got 0 and 0\. Set one above 0"),
        ({"direction_weight": 0.0}, r"value_weight='auto' with a direction_weight > 0, got 0\.0 and 'auto'"),
        ({"direction_weight": -1.0}, r"direction_weight >= 0 .*, got -1\.0"),
        ({"value_weight": -0.5}, r"value_weight >= 0 .*, got -0\.5"),
        ({"value_weight": float("nan")}, r"value_weight >= 0 .*, got nan"),
        ({"value_weight": "half"}, r"value_weight >= 0 and <= 1000000 or 'auto', got 'half'"),
        ({"learning_rate": 0.0}, r"learning_rate > 0 and <= 1000, got 0\.0"),
        ({"learning_rate": float("nan")}, r"learning_rate > 0 and <= 1000, got nan"),
        ({"training_steps": 0}, r"training_steps >= 1 as a whole number or None, got 0\."),
        ({"cache_gigabytes": -1.0}, r"cache_gigabytes >= 0 and <= 1000000, got -1\.0"),
        ({"sigma": -4.0}, r"sigma >= 0 and <= 256, got -4\.0"),
        ({"layers": ["pool9"]}, r"got \['pool9'\]. Choose from \['pool1', .*'pool5'\]"),
        ({"score_layers": ["pool1"]}, r"score_layers among the layers, got \['pool1'\]"),
        ({"backbone": "vgg61"}, r"timm backbone, got 'vgg61'\. Close matches: .*vgg16"),
        ({"backbone": "resnet10t.c3_in1k", "detach_teacher": False}, r"detach_teacher=True with the backbone"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


@pytest.mark.parametrize("name", ["student", "localization", "map_scaling", "schedule", "student_precision"])
def test_a_word_that_is_no_choice_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} to be '.*' or '.*', got 'nonsense'"):
        tiny(**{name: "nonsense"})


@pytest.mark.parametrize("size", [(31, 64), (64, 16)])
def test_a_size_under_32_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"image_size of at least 32 pixels a side, got \(.*Choose a larger one"):
        Mkd.configure_pre_processor(size)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    for owner, name in (({"anomalib_mkd_model": "Dcam"}, "Dcam"), ({}, "a model of another package")):
        with pytest.raises(ValueError, match=rf"Expected a checkpoint of Mkd, got one of {name}\. Load it with"):
            tiny().on_load_checkpoint(owner)


# ------------------------------------------------------------------------------------------------------ refused exports


def test_random_maps_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="localization='gradients' or 'guided' for an export, got 'smooth_grad'"):
        tiny(localization="smooth_grad").to_onnx(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compression", list(CompressionType))
def test_compressed_maps_are_not_exported(tmp_path: Path, compression: CompressionType) -> None:
    with pytest.raises(ValueError, match=r"no compression_type for Mkd, got .*Export without compression"):
        tiny().to_openvino(tmp_path, compression_type=compression)
    with pytest.raises(ValueError, match="no compression_type for Mkd"):
        tiny().to_openvino(tmp_path, "model", None, compression)  # by position, as anomalib's signature allows
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [None, (16, 64)])
def test_a_map_without_a_size_is_not_exported(tmp_path: Path, size: tuple[int, int] | None) -> None:
    with pytest.raises(ValueError, match=r"input_size of at least 32 pixels a side, got .*Set input_size"):
        tiny(pre_processor=False).to_onnx(tmp_path, input_size=size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["to_torch", "to_onnx", "to_openvino"])
def test_an_export_folder_that_cannot_be_written_is_named(tmp_path: Path, way: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(OSError, match=rf"writable folder for the export, got '{taken}'"):
        getattr(tiny(), way)(taken)
    assert taken.read_text() == "a file"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
