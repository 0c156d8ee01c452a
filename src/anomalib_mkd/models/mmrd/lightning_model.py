# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mmrd as an anomalib model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from anomalib.data import InferenceBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from anomalib_mkd.models.mmrd.depth_pre_processor import DepthPreProcessor, default_transform
from anomalib_mkd.models.mmrd.depth_visualizer import DepthVisualizer
from anomalib_mkd.models.mmrd.paired_export import PairedExportMixin
from anomalib_mkd.models.mmrd.siamese import RGB
from anomalib_mkd.models.mmrd.student import GuidedStudent
from anomalib_mkd.models.mmrd.torch_model import AUX, MmrdModel, ModalityFusion
from anomalib_mkd.training.levelwise_mixin import LevelwiseMixin

BETAS = (0.5, 0.999)
"""Of Adam, as in RD4AD's code; anomalib's Reverse Distillation has 0.99 for the second."""
AUX_IMAGES = 256
"""Normal images that statistics of the second modality are estimated from."""


class Mmrd(PairedExportMixin, LevelwiseMixin, AnomalibModule):
    """Multi-modal reverse distillation (Gu et al. 2024) for photos with depth.

    Batches need a ``depth_map``, as those of ``DepthFolder``, or of anomalib's ``Folder3D``, have one.

    Args:
        backbone: Teacher, by timm's full name: a ResNet, ResNeXt or Wide ResNet.
        branches: "mmrd"; or a baseline: reverse distillation of the photo ("rgb") or of the depth ("aux") alone, or of
            both without knowing of each other ("two_branch").
        aux: What the second modality is: the depth, or surface normals computed from it.
        depth_norm: Scale depths by constants of the training set, or each image by its own mean and deviation.
        aux_bn: Estimate BatchNorm statistics for the second modality on normal images, or keep those of ImageNet.
        target_fusion: Restore both modalities side by side ("concat"), or one fusion of their features.
        modality_fusion: How the two maps are joined where there are two, each scaled to 0 at its normal mean and 1 at
            its mean normal peak: by default "zmax", the larger one; "p4", the fourth root of the sum of fourth powers;
            "rss", the root of the sum of squares; or "zsum", the sum. "sum" and "joint" add and average them unscaled.
        num_prototypes: Prototypes of each modality.
        prior_dim: Channels of a prototype.
        prior_temperature: Divides the cosines to prototypes before the softmax.
        prior_source: What prototypes are looked up with: the teacher's features, or the bottleneck's.
        prior_init: How prototypes start; "kmeans" takes centres of normal features.
        interaction: Attention within a modality and then across, within only, or none.
        num_heads: Heads of each attention.
        inject: Priors are added to the embeddings, starting at nothing; replace them; or stand beside them.
        shared_bottleneck: One bottleneck for both modalities.
        loss: One cosine per image and level, as in RD4AD; one per position; or the sum of both.
        level_fusion: How levels of the map are joined.
        sigma: Standard deviation of the map's Gaussian blur in pixels; 0 for none.
        learning_rate: Adam's largest learning rate.
        weight_decay: Adam's weight decay.
        schedule: "one_cycle" lets the learning rate end at 0, so that the last weights are good weights.
        training_steps: Length of training where neither max_epochs nor max_steps is set, in whole epochs.
        cache_gigabytes: Memory for the training images and the teacher's features of them; 0 keeps none.
        student_precision: "auto" trains the student in bf16 on CPUs that compute in it, and in f32 elsewhere.
        on_divergence: Log the signs of a diverged training, or stop at them.
        pre_trained: Start from the backbone's ImageNet weights.
        weights: File with weights for the backbone.
        pre_processor: Default: 256 pixels, ImageNet's normalisation, and the depth alongside. Another one must be a
            ``DepthPreProcessor``, unless branches="rgb".
        post_processor: Default: anomalib's thresholds, on a scale that cuts nothing off.
        evaluator: Default: anomalib's.
        visualizer: Default: photo, depth, truth and heat map side by side.

    Raises:
        ValueError: If an argument is out of range, two exclude each other, or the backbone has no decoder.
    """

    model: MmrdModel
    variance_tells = False  # in good trainings what the decoder's BatchNorms see grows 10000-fold, too

    def __init__(
        self,
        backbone: str = "wide_resnet50_2.tv_in1k",
        branches: Literal["mmrd", "rgb", "aux", "two_branch"] = "mmrd",
        aux: Literal["depth", "normals"] = "depth",
        depth_norm: Literal["train", "image"] = "train",
        aux_bn: Literal["reestimate", "imagenet"] = "reestimate",
        target_fusion: Literal["concat", "sum", "mean", "max", "nsum", "energy", "variance"] = "concat",
        modality_fusion: ModalityFusion | None = None,
        num_prototypes: int = 64,
        prior_dim: int = 256,
        prior_temperature: float = 0.1,
        prior_source: Literal["teacher", "embedding"] = "teacher",
        prior_init: Literal["orthogonal", "kmeans", "random"] = "orthogonal",
        interaction: Literal["intra_cross", "intra", "none"] = "intra_cross",
        num_heads: int = 4,
        inject: Literal["add", "replace", "concat"] = "add",
        shared_bottleneck: bool = False,
        loss: Literal["flat", "pixel", "flat+pixel"] = "flat",
        level_fusion: Literal["sum", "product"] = "sum",
        sigma: float = 4.0,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.0,
        schedule: Literal["one_cycle", "constant"] = "one_cycle",
        training_steps: int | None = 300,
        cache_gigabytes: float = 4.0,
        student_precision: Literal["auto", "f32", "bf16"] = "auto",
        on_divergence: Literal["warn", "stop"] = "warn",
        pre_trained: bool = True,
        weights: str | Path | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        if pre_processor is True:
            pre_processor = DepthPreProcessor(default_transform(), aux, depth_norm)
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        self.model = self.build(MmrdModel)
        check_pre_processor(self.pre_processor, branches, aux, depth_norm)

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> DepthPreProcessor:
        """Give the default pre-processor for depth images of another size."""
        return DepthPreProcessor(default_transform(image_size or (256, 256)))

    @classmethod
    def configure_visualizer(cls) -> DepthVisualizer:
        """Give the default visualizer."""
        return DepthVisualizer(text_config={"size": 15})  # anomalib's own cuts its longest label off

    @property
    def input_names(self) -> tuple[str, ...]:
        """Inputs of an export, in order."""
        return ("image",) if self.hparams["branches"] == RGB else ("image", "depth")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Configure Adam over everything that learns."""
        rate, decay = self.hparams["learning_rate"], self.hparams["weight_decay"]
        return self.scheduled(
            torch.optim.Adam(self.model.learned_parameters(), lr=rate, betas=BETAS, weight_decay=decay)
        )

    def seen(self, batch: Any) -> Tensor:
        """Give photo and depth image of a batch as one image, as far as the branches look at them.

        Raises:
            ValueError: If there is no depth, and it is needed.
        """
        branches = self.hparams["branches"]
        if branches == RGB:
            return batch.image  # type: ignore[no-any-return]  # a batch of anomalib's
        return self.depth_of(batch) if branches == AUX else torch.cat((batch.image, self.depth_of(batch)), dim=1)

    def on_train_start(self) -> None:
        """Fit the depth's range, the second modality's statistics and the prototypes to normal images, once."""
        teacher = self.model.teacher
        if AUX in self.model.modalities and not bool(teacher.estimated):
            if isinstance(self.pre_processor, DepthPreProcessor):
                maps = map(self.depth_of, self.normal_items(AUX_IMAGES))
                self.pre_processor.calibrate(maps, next(self.normal_batches(1)).image.shape[-2:])
            if self.hparams["aux_bn"] == "reestimate":
                teacher.estimate(self.seen(batch) for batch in self.normal_batches(AUX_IMAGES))
            teacher.estimated.fill_(value=True)
            self._start_prototypes()
        super().on_train_start()

    def _start_prototypes(self) -> None:
        student = self.model.student
        if self.hparams["prior_init"] != "kmeans" or not isinstance(student, GuidedStudent):
            return
        pyramids = [self.model.teacher(self.seen(batch)) for batch in self.normal_batches(AUX_IMAGES)]
        for name, prior in student.priors.items():
            prior.start_from(torch.cat([student.queries(name, pyramid) for pyramid in pyramids]))

    def calibrate(self) -> None:
        """Estimate BatchNorm statistics anew after few steps, and measure normal maps, of held-out images if possible.

        Images of the training set would do with smaller distances than new ones, and not equally in both modalities.
        """
        super().calibrate()
        if self.model.modality_fusion is not None:
            self.model.calibrate(self.seen(batch) for batch in self.normal_batches(dataset=self.held_out()))

    def forward(self, batch: Tensor, depth: Tensor | None = None) -> InferenceBatch:
        """Judge raw inputs as testing does; what is exported.

        Args:
            batch: Photos ``(N, 3, H, W)`` in 0..1.
            depth: Depth maps ``(N, 1, H, W)``, or point clouds ``(N, 3, H, W)``, as for :class:`DepthPreProcessor`.

        Raises:
            ValueError: If there is no depth, and it is needed.
        """
        if self.hparams["branches"] == RGB:
            return super().forward(batch)
        raw = SimpleNamespace(image=batch, depth_map=depth)
        self.depth_of(raw)
        if self.pre_processor is not None:
            raw.image, raw.depth_map = self.pre_processor(batch, depth)
        return self.judged(self.seen(raw))


def check_pre_processor(pre_processor: Any, branches: str, aux: str, depth_norm: str) -> None:
    """Refuse a pre-processor that leaves the depth alone, or makes something else of it.

    Raises:
        ValueError: If it does.
    """
    if branches == RGB or pre_processor is None:
        return
    if not isinstance(pre_processor, DepthPreProcessor):
        msg = (
            f"Expected a DepthPreProcessor for branches={branches!r}, got a {type(pre_processor).__name__}, which "
            "leaves the depth as it is. Wrap its transform: DepthPreProcessor(transform)."
        )
        raise ValueError(msg)  # noqa: TRY004  # as for every other argument
    if (pre_processor.aux, pre_processor.depth_norm) != (aux, depth_norm):
        msg = (
            f"Expected a pre-processor with aux={aux!r} and depth_norm={depth_norm!r}, as the model's, got "
            f"{pre_processor.aux!r} and {pre_processor.depth_norm!r}. Give both the same."
        )
        raise ValueError(msg)
