# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""MixedDistillation as an anomalib model."""

from collections.abc import Sequence
from pathlib import Path

from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.distillation.anomaly_map import LevelFusion
from anomalib_mkd.models.mixed_distillation.torch_model import MixedDistillationModel
from anomalib_mkd.networks.backbone import RESNET18
from anomalib_mkd.networks.inputs import suited_pre_processor
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.thresholds import FALSE_ALARMS
from anomalib_mkd.training.caching import CACHE_GIGABYTES
from anomalib_mkd.training.mixin import DistillationMixin
from anomalib_mkd.training.optimizers import OptimizerName
from anomalib_mkd.training.precision import StudentPrecision
from anomalib_mkd.training.schedule import Schedule


class MixedDistillation(DistillationMixin, AnomalibModule):
    """Mixed distillation (Cai and Xia, MVA 2023): STFPM that also distils across levels, see docs/papers.

    Args:
        backbone: Teacher, by timm's full name, "resnet18.tv_in1k" by default; any CNN that timm can tap.
        layers: Layers that the student learns. Default: the stages of stride 4, 8 and 16.
        student_width: Share of the teacher's channels that the student has; 1 in STFPM.
        skip_weight: Weight of the path on which the deepest student level learns from the shallowest teacher level; 0
            for none.
        symmetric_weight: Weight of the path on which the shallowest student level learns from the deepest teacher
            level; 0 for none.
        level_fusion: How the levels' maps are fused.
        sigma: Standard deviation of the map's Gaussian blur in pixels; 0 for none.
        score_share: Share of the map's pixels, the highest ones, whose mean is the score; 0 for the peak, as in STFPM.
        hard_share: Share of the positions, the student's worst ones, that the loss averages; 1 in STFPM.
        painted_share: Share of the training images that only the student sees painted over; 0 for none.
        optimizer: Muon, AdamW, or SGD with a momentum of 0.9.
        learning_rate: Peak learning rate. Default: 0.03 for Muon, 0.004 for AdamW, 0.4 for SGD.
        weight_decay: Weight decay. Default: 0.1 for Muon, 1e-4 for the others.
        schedule: "one_cycle" decays the learning rate to 0, so that the final weights do not depend on the last steps.
        training_steps: Steps per category if neither max_epochs nor max_steps is set, rounded up to whole epochs.
        cache_gigabytes: Memory for the training images and the teacher's features of them; 0 disables caching.
        student_precision: "auto" trains the student in bf16 on CPUs with AMX, else as the trainer does.
        false_alarms: Expected share of good parts called bad, for which the threshold is set. ``None``: anomalib's
            rule, the best F1 in validation, which needs bad parts there.
        pre_trained: Whether to load the backbone's ImageNet weights.
        weights: File with weights for the backbone, or "quickstart" for the small embedded teacher.
        pre_processor: Default: anomalib's, 256 pixels; 128 pixels without normalisation for the embedded teacher.
        post_processor: Default: thresholds from good parts, on a scale that is never clipped.
        evaluator: Default: anomalib's.
        visualizer: Default: anomalib's.

    Raises:
        ValueError: If an argument is out of range, or two exclude each other.
    """

    model: MixedDistillationModel

    def __init__(
        self,
        backbone: str = RESNET18,
        layers: Sequence[str] | None = None,
        student_width: float = 0.5,
        skip_weight: float = 0.5,
        symmetric_weight: float = 0.5,
        level_fusion: LevelFusion = "sum",
        sigma: float = 0.0,
        score_share: float = 0.005,
        hard_share: float = 0.1,
        painted_share: float = 0.5,
        optimizer: OptimizerName = "muon",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        schedule: Schedule = "one_cycle",
        training_steps: int | None = 300,
        cache_gigabytes: float = CACHE_GIGABYTES,
        student_precision: StudentPrecision = "auto",
        false_alarms: float | None = FALSE_ALARMS,
        pre_trained: bool = True,
        weights: str | Path | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        check_arguments(
            locals(),
            optional=("learning_rate", "weight_decay", "training_steps", "false_alarms"),
            level_fusion=LevelFusion,
            optimizer=OptimizerName,
            schedule=Schedule,
            student_precision=StudentPrecision,
        )
        super().__init__(suited_pre_processor(pre_processor, backbone, weights), post_processor, evaluator, visualizer)
        self.model = MixedDistillationModel(
            Teacher(backbone, layers, pre_trained=pre_trained, weights=weights),
            student_width=student_width,
            skip_weight=skip_weight,
            symmetric_weight=symmetric_weight,
            hard_share=hard_share,
            level_fusion=level_fusion,
            sigma=sigma,
            score_share=score_share,
        )
