# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Every variant is a model that can be built, and the paper's is the one of the configuration file."""

from __future__ import annotations

import dataclasses
import operator
from pathlib import Path
from typing import Any

import pytest
import yaml

import anomalib_mkd
from anomalib_mkd.data import Recipe, make_dataset
from benchmark.accuracy import measure_run
from benchmark.runs import QUICKSTART, RESNET18, Run, build_model, model_arguments
from benchmark.variants import (
    COMMON,
    NAMED,
    NARROWED,
    PREDICTED_OTHERWISE,
    variant_arguments,
)

ROOT = Path(__file__).resolve().parents[2]
TEACHER = {"Mkd": QUICKSTART}  # its variants name a VGG's layers; all other models have a ResNet-18
FILES = {"MixedDistillation": "mixed_distillation", "Dcam": "dcam", "Mmrd": "mmrd"}
NAMES = [
    (model, variant)
    for model in NAMED
    for variant in (*NAMED[model], *COMMON, *(["width0.25", "paper+width0.5+f32"] if model in NARROWED else []))
]


@pytest.mark.parametrize(("model", "variant"), NAMES)
def test_a_variant_is_a_model(model: str, variant: str) -> None:
    arguments = variant_arguments(model, variant)
    built = getattr(anomalib_mkd, model)(
        **{"backbone": TEACHER.get(model, RESNET18), "pre_trained": False, **arguments}
    )
    assert {name: built.hparams[name] for name in arguments} == arguments


@pytest.mark.parametrize("model", FILES)  # Mkd's names the layers of a VGG
def test_the_papers_variant_is_the_papers_file(model: str) -> None:
    recipe = yaml.safe_load((ROOT / "configs" / "model" / f"{FILES[model]}_paper.yaml").read_text(encoding="utf-8"))

    def described(**arguments: Any) -> dict[str, Any]:
        small = {**arguments, "backbone": RESNET18}  # which a run's weights decide
        return dict(getattr(anomalib_mkd, model)(pre_trained=False, **small).hparams)

    expected = described(**recipe["model"]["init_args"])
    assert {**described(**variant_arguments(model, "paper")), "training_steps": None} == expected


def test_later_words_win_and_unknown_ones_are_listed() -> None:
    assert variant_arguments("Dcam", "paper+width0.5")["student_width"] == 0.5
    assert variant_arguments("Mkd", "size96") == {"image_size": 96}
    with pytest.raises(ValueError, match=r"variants of Dcam, .*got 'default\+skip'. Choose from \['default', "):
        variant_arguments("Dcam", "default+skip")


@pytest.mark.parametrize(
    ("teacher", "steps"), [("resnet18.tv_in1k", ["Resize", "Normalize"]), ("quickstart", ["Resize"])]
)
def test_a_variant_sets_the_side_of_images(teacher: str, steps: list[str]) -> None:
    transform = build_model(Run("Dcam", "size96", "x/y", 0, teacher=teacher)).pre_processor.transform
    found = {type(each).__name__: each for each in getattr(transform, "transforms", [transform])}
    assert list(found) == steps
    assert found["Resize"].size == [96, 96]


def test_arguments_of_a_run() -> None:
    run = Run("Dcam", "no_gate+width0.25", "x/y", 0, steps=7)
    assert model_arguments(run) == {
        "backbone": "resnet18.tv_in1k",
        "attention": "none",
        "student_width": 0.25,
        "training_steps": 7,
    }
    given = {"raw_weight": 1.0}
    painted = Run("Dcam", "any name", "x/y", 0, "quickstart", protocol="painted6", arguments=given)
    assert model_arguments(painted) == {"backbone": "quickstart", "raw_weight": 1.0, "training_steps": 300}
    assert build_model(painted).hparams["raw_weight"] == 1.0


def test_a_model_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match=r"Expected a model out of .*got 'Nonesuch'"):
        build_model(Run("Nonesuch", "default", "x/y", 0))


@pytest.mark.parametrize("model", PREDICTED_OTHERWISE)
def test_what_predicts_otherwise_is_the_variant_of_that_name(model: str) -> None:
    def build(**arguments: Any) -> Any:
        backbone = TEACHER.get(model, RESNET18)
        return getattr(anomalib_mkd, model)(backbone=backbone, pre_trained=False, **arguments).model

    for variant, attributes in PREDICTED_OTHERWISE[model].items():
        for path, value in attributes.items():
            attribute = operator.attrgetter(path)
            assert attribute(build()) != attribute(build(**variant_arguments(model, variant)))
            assert attribute(build(**variant_arguments(model, variant))) == value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_trained_default_predicts_otherwise_too_and_is_left_as_it_was(tmp_path: Path) -> None:
    drawn = make_dataset(tmp_path, Recipe("metal", image_size=64, train_images=5, test_good=2, per_defect=1))
    built: list[Any] = []

    def build(run: Run) -> Any:
        built.append(build_model(run))
        return built[-1]

    run = Run("Dcam", "default", "metal", 0, "quickstart", 2, 2)
    options: dict[str, Any] = {"results": tmp_path / "a.csv", "source": "a", "build": build}
    rows = measure_run(run, data_root=drawn.parent, **options)
    values = {(row.variant, row.metric): row.value for row in rows if row.subset == "all"}
    assert {variant for variant, _ in values} == {"default", *PREDICTED_OTHERWISE["Dcam"]}
    assert values["default", "AUPRO"] != values["product", "AUPRO"]
    assert built[0].model.anomaly_map.level_fusion == "sum"
    rows = measure_run(dataclasses.replace(run, seed=1), data_root=drawn.parent, otherwise=False, **options)
    assert {row.variant for row in rows} == {"default"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_8_bits_give_rows_of_their_own(tmp_path: Path) -> None:
    drawn = make_dataset(tmp_path / "metal", Recipe("metal", image_size=64, train_images=5, test_good=2, per_defect=1))
    run = Run("Dcam", "default+width0.25", "metal", 0, "quickstart", 2, 2)
    options: dict[str, Any] = {
        "results": tmp_path / "a.csv",
        "data_root": drawn.parent,
        "source": "a",
    }
    rows = measure_run(run, int8=True, **options)
    assert {row.key for row in rows} == {run.key, run.key._replace(int8=True)}
    metrics = [{row.metric for row in rows if row.precision == "int8"}, {"image_AUROC", "pixel_AUROC", "AUPRO"}]
    assert metrics[0] == metrics[1]
    assert measure_run(run, int8=True, **options) == measure_run(run, **options) == []
