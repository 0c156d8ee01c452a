# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's post-processor with thresholds from good parts alone, and a scale that is never clipped."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from anomalib.post_processing import PostProcessor
from torch import Tensor
from torchmetrics import CatMetric

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.category_post_processor import (
    CategoryPostProcessor,
    categories_of,
    in_training,
    statistics,
    threshold_categories,
)
from anomalib_mkd.functional import linear_scale, soft_normalize
from anomalib_mkd.thresholds import (
    ALLOWED,
    FALSE_ALARMS,
    LEAST_GOOD,
    SUSPECT,
    Fitted,
    Scale,
    as_varied,
    center_and_spread,
    peak_and_median,
    pooled,
    scale_from_good,
    strictest,
    threshold_from_good,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anomalib.data import InferenceBatch
    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)


class SoftPostProcessor(CategoryPostProcessor):
    """Thresholds from good parts alone, and a scale that keeps the order of all scores.

    The threshold of scores is the one that a share of good parts is expected to exceed, estimated from the good parts
    among the validation images, so that one odd image does not set it: see
    :func:`anomalib_mkd.thresholds.threshold_from_good`. Images that the model has learnt show how scores vary, too.
    Where the data has several categories, the highest of their thresholds is taken, beside the table of their own. The
    threshold of pixels comes from the mean of the highest 0.5 % of each map in the same way. Masks are empty where a
    part is called good.

    anomalib clips a scaled score ``0.5 + x``, with ``x = (score - threshold) / (max - min)``, to 0..1. Here a score
    becomes :func:`soft_scale` of x, where the width is the distance from a typical good part to the threshold: 0.5 at
    the threshold, 1/6 at a typical good part, within 0..1 and never clipped. A sensitivity other than 0.5 moves the
    threshold to 1 - sensitivity on this scale, a different score than on anomalib's.

    Args:
        false_alarms: Expected share of good parts called bad. ``None``: anomalib's rule, the threshold with the best
            F1 in validation, which needs bad parts there.
        leave_out_suspects: Whether good parts that score far above the others are left out of the thresholds.
        **arguments: As for anomalib's post-processor.

    Attributes:
        good_scores: Raw scores of the good parts that set the threshold, in ascending order.
        learnt: Rows of :func:`good_parts` for some that the model has learnt, made as varied as those held out. They
            are kept in the checkpoint, so that a later validation sets the thresholds as the end of the training did.
        just_learnt: Whether these rows still wait for the validation that makes them as varied.
        table: As for :class:`CategoryPostProcessor`, and ``good_scores`` of each category. The row of one with too few
            good parts is empty. OpenVINO exports have the table, too.

    Raises:
        ValueError: If ``false_alarms`` is not within 0..0.5, both excluded, or ``enable_normalization`` is off.

    Example:
        >>> import torch
        >>> scores, low, high, threshold = (torch.tensor(v) for v in ([0.0, 1.0, 2.0, 4.0], 0.0, 1.0, 1.0))
        >>> SoftPostProcessor._normalize(scores, low, high, threshold)
        tensor([0.1667, 0.5000, 0.8333, 0.9286])
    """

    def __init__(
        self, false_alarms: float | None = FALSE_ALARMS, leave_out_suspects: bool = False, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        check_arguments(locals(), optional=["false_alarms"])
        if not self.enable_normalization:
            msg = (
                "Expected enable_normalization=True, got False: thresholds are places on the normalised scale. Leave "
                "it out."
            )
            raise ValueError(msg)
        self.false_alarms = false_alarms
        self.leave_out_suspects = leave_out_suspects
        self.good_scores: list[float] = []
        self.learnt: list[list[float]] = []
        self.just_learnt = False
        self._held_out = CatMetric()  # rows of good_parts(); a metric, because it joins those of all processes
        self._groups: dict[str, float] = {}  # category to number, of those that get their own thresholds next

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "false_alarms", "leave_out_suspects", "good_scores", "learnt")

    # ------------------------------------------------------------------------------------------------ fitting

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Collect the good parts of a batch."""
        if self.false_alarms is None:
            super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)
        elif len(found := self._rows(trainer, outputs)):
            self._held_out.update(found.flatten().to(self.image_min.device))  # for NCCL; flat, as of one without any

    def _rows(self, trainer: Trainer, batch: Any) -> Tensor:
        """List the good parts of a batch by :func:`good_parts`, and note its categories with their own thresholds."""
        named = filter(None, threshold_categories(trainer, batch))
        self._groups.update({category: group_number(category) for category in named})
        return good_parts(batch, categories_of(trainer, batch))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Estimate the thresholds; categories without validated images keep theirs."""
        if self.false_alarms is None:
            super().on_validation_epoch_end(trainer, pl_module)
            return
        if in_training(trainer):
            self.table = {}  # of an earlier training
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        joined = several or self._held_out.update_called  # all processes exchange theirs, or none
        held_out = torch.as_tensor(self._held_out.compute()).reshape(-1, 4).cpu() if joined else torch.empty(0, 4)
        self._held_out.reset()
        groups, self._groups = self._groups, {}
        learnt = torch.tensor(self.learnt).reshape(-1, 4)
        if self.just_learnt:  # a later validation may be on other parts, or in another light
            self.learnt, self.just_learnt = (learnt := all_as_varied(learnt, held_out)).tolist(), False
        if len(held_out) and not in_training(trainer):  # what was learnt of other categories says nothing of these
            learnt = learnt[torch.isin(learnt[:, 3], held_out[:, 3])]
        count = len(held_out) + len(learnt)
        if count < LEAST_GOOD and self.scales is None and not in_training(trainer):
            msg = (
                f"Expected a model that has thresholds, or at least {LEAST_GOOD} good parts to validate, got an "
                f"untrained one and {count}. Train the model, or pass the checkpoint of a trained one."
            )
            raise ValueError(msg)
        for category, group in groups.items():
            self._set_row(category, *(rows[rows[:, 3] == group] for rows in (held_out, learnt)))
        own = [each for each in self.fitted_categories.values() if each] if groups else []
        if own:
            common = strictest(own)  # also of categories that keep theirs
        elif count < LEAST_GOOD and self.scales is not None:
            logger.warning("Only %d good parts were validated, fewer than %d: the thresholds stay.", count, LEAST_GOOD)
            return
        else:
            common = self.fitted(held_out, learnt)
        self.good_scores = list(common.good_scores)
        self.set_scales(common.image, common.pixel)
        self._warn_of_few(trainer, held_out, learnt)
        self._warn_of_kept(groups)

    def _set_row(self, category: str, held_out: Tensor, learnt: Tensor) -> None:
        """Fit the thresholds of a category to its rows of :func:`good_parts`; with too few it keeps those it has."""
        try:
            image, pixel, scores = self.fitted(held_out, learnt)
        except ValueError as error:
            kept = self.table.setdefault(category, {})
            has = "keeps its thresholds" if kept else "has the thresholds of all categories together"
            logger.warning("The category %s %s: %s", category, has, error)
        else:
            self.table[category] = {**statistics_of(image, pixel), "good_scores": list(scores)}

    def _warn_of_few(self, trainer: Any, held_out: Tensor, learnt: Tensor) -> None:
        """Warn once of all categories with few good parts held out, but enough together with the learnt ones."""
        categories = getattr(getattr(trainer, "datamodule", None), "categories", ())
        names = {group_number(name): f" of {name!r}" for name in categories}
        own, both = (Counter(rows[:, 3].tolist()) for rows in (held_out, torch.cat([held_out, learnt])))
        few = [group for group, count in both.items() if own[group] < LEAST_GOOD <= count]
        if few:
            logger.warning(
                "Only %s were held out for the threshold, fewer than %d, so that it is rough. Add good parts.",
                ", ".join(f"{own[group]} good parts{names.get(group, '')}" for group in few),
                LEAST_GOOD,
            )

    def learn(self, trainer: Trainer, batches: Iterable[Any]) -> None:
        """Remember good parts that the model has learnt; the next validation makes them as varied as those held out.

        Args:
            trainer: The trainer of the model.
            batches: Batches with the model's raw scores and maps.
        """
        self.learnt = [row for batch in batches for row in self._rows(trainer, batch).tolist()]
        self.just_learnt = True

    def fitted(self, held_out: Tensor, learnt: Tensor) -> Fitted:
        """Estimate thresholds and scales by these settings; see :func:`fit_good`."""
        groups = sorted(set(torch.cat([held_out, learnt])[:, 3].tolist()))
        fits = [fit for group in groups if (fit := self.fitted_group(held_out, learnt, group))]
        if not fits:  # too few of each category
            return fit_good(held_out, learnt, self.false_alarms or FALSE_ALARMS)
        return strictest(fits)

    def fitted_group(self, held_out: Tensor, learnt: Tensor, group: float) -> Fitted | None:
        """Estimate those of one category by its number, as :meth:`fitted` does; ``None`` if it has too few parts."""
        own, known = (parts[parts[:, 3] == group] for parts in (held_out, learnt))
        if self.leave_out_suspects:
            own, known = (parts[~suspects(parts[:, 0])] for parts in (own, known))
        enough = len(own) + len(known) >= LEAST_GOOD
        return fit_good(own, known, self.false_alarms or FALSE_ALARMS) if enough else None

    @property
    def thresholds_by_share(self) -> dict[float, float]:
        """Return where each share of :data:`ALLOWED`, and the own one, set the threshold of scores on the scale 0..1.

        Empty before a validation, if bad parts set the threshold, and if each category has its own.
        """
        if self.scales is None or self.false_alarms is None or self.table or len(self.good_scores) < LEAST_GOOD:
            return {}
        image, _ = self.scales
        others = {share: image.scaled(threshold_from_good(self.good_scores, share)) for share in ALLOWED}
        return dict(sorted({**others, self.false_alarms: image.scaled(image.threshold)}.items()))

    @property
    def rule(self) -> str:
        """Say how the threshold of scores was set; empty before a validation."""
        if self.scales is None:
            return ""
        if self.false_alarms is None:
            return "best F1 in validation"
        return f"meant to call {100 * self.false_alarms:g} % of good parts bad, from {len(self.good_scores)} of them"

    @property
    def scales(self) -> tuple[Scale, Scale] | None:
        """Scale of scores and scale of maps; ``None`` before a validation."""
        return scales_of(statistics(self))

    @property
    def fitted_categories(self) -> dict[str, Fitted | None]:
        """Thresholds of each category in the table; ``None`` for one with too few good parts."""
        return {
            category: Fitted(*own, tuple(row.get("good_scores", ()))) if row and (own := scales_of(row)) else None
            for category, row in self.table.items()
        }

    def set_scales(self, image: Scale, pixel: Scale) -> None:
        """Set the thresholds, and what anomalib calls minimum and maximum, whose difference is the scale."""
        for name, value in statistics_of(image, pixel).items():
            getattr(self, f"_{name}" if name.endswith("threshold") else name).fill_(value)

    # ------------------------------------------------------------------------------------------------ predicting

    def threshold_batch(self, batch: Any) -> None:
        """Set labels and masks; a mask is empty where the part is called good."""
        masked = batch.pred_mask is None
        super().threshold_batch(batch)
        if masked:
            batch.pred_mask = _where_bad(batch.pred_mask, batch.pred_label)

    def forward(self, predictions: InferenceBatch) -> InferenceBatch:
        """Scale scores and maps, and set labels and masks; as for a batch in a test."""
        result = super().forward(predictions)
        return result._replace(pred_mask=_where_bad(result.pred_mask, result.pred_label))

    @staticmethod
    def _apply_threshold(preds: Tensor | None, threshold: Tensor) -> Tensor | None:
        """Compare as anomalib does, but a number that is not finite is never good."""
        return None if preds is None else ~(preds <= threshold)

    @staticmethod
    def _normalize(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
        """Scale scores or maps of any shape; without statistics, or if their range is 0, as anomalib does."""
        hard: Tensor | None = PostProcessor._normalize(preds, norm_min, norm_max, threshold)  # noqa: SLF001
        if preds is None or hard is None:
            return hard
        spread = norm_max - norm_min
        high = torch.where(spread > 0, norm_max, norm_min + 1)  # no division by 0 in an exported graph
        return torch.where(spread > 0, soft_normalize(preds, norm_min, high, threshold), hard)

    @staticmethod
    def linear(scores: Tensor) -> Tensor:
        """Return scaled scores of any shape on a scale that is linear in the raw ones."""
        return linear_scale(scores)


def scales_of(numbers: Mapping[str, Any]) -> tuple[Scale, Scale] | None:
    """Return the scales of scores and of maps that statistics mean; ``None`` for those before a validation."""
    found = []
    for kind in ("image", "pixel"):
        low, high, threshold = (numbers[f"{kind}_{name}"] for name in ("min", "max", "threshold"))
        if not (math.isfinite(threshold) and high > low):
            return None
        found.append(Scale(threshold, high - low))
    return found[0], found[1]


def statistics_of(image: Scale, pixel: Scale) -> dict[str, float]:
    """Return anomalib's statistics that mean these scales, as its tensors hold them; see :func:`scales_of`."""
    numbers: dict[str, float] = {}
    for kind, given in (("image", image), ("pixel", pixel)):
        low, high = given.threshold - given.scale, given.threshold
        numbers |= {f"{kind}_min": low, f"{kind}_max": high, f"{kind}_threshold": given.threshold}
    return {name: torch.tensor(value).item() for name, value in numbers.items()}


def group_number(category: str | None) -> float:
    """Return a number for a category, which processes can exchange; -1 for none."""
    return -1.0 if category is None else float(crc32(category.encode()) % (1 << 20))


def good_parts(batch: Any, categories: Sequence[str | None]) -> Tensor:
    """List the good parts of a batch whose scores and maps are finite; all of it, if the truth is unknown.

    Args:
        batch: With raw scores, and maps if the model has any.
        categories: Of its images.

    Returns:
        Score, mean of the highest 0.5 % of the map, median pixel, and the category's number, ``(N, 4)``; without maps,
        the score stands for the second, too.
    """
    scores = batch.pred_score.detach().flatten().float().cpu()
    peaks, medians = scores, torch.zeros_like(scores)
    if batch.anomaly_map is not None:
        pixels = batch.anomaly_map.detach().flatten(1).float().cpu()
        peaks, medians = map(torch.from_numpy, peak_and_median(pixels.numpy()))
    found = torch.stack([scores, peaks, medians, torch.tensor(list(map(group_number, categories)))], dim=1)
    good = torch.ones_like(scores, dtype=torch.bool) if batch.gt_label is None else batch.gt_label.flatten().cpu() == 0
    finite = found.isfinite().all(dim=1)
    for index in (good & ~finite).nonzero().flatten().tolist():
        name = "an image" if batch.image_path is None else f"'{batch.image_path[index]}'"
        logger.warning("The score of %s is not finite: it does not count for the threshold. Check the image.", name)
    return found[good & finite]


def suspects(scores: Tensor) -> Tensor:
    """Return which of the scores ``(N,)`` of good parts lie far above the others."""
    if len(scores) == 0:
        return torch.zeros(0, dtype=torch.bool)
    center, spread = center_and_spread(scores.numpy())
    return scores > center + SUSPECT * spread


def all_as_varied(learnt: Tensor, held_out: Tensor) -> Tensor:
    """Apply :func:`as_varied` to each category and column of rows of :func:`good_parts`, ``(N, 4)``."""
    made = learnt.clone()
    for group in set(learnt[:, 3].tolist()):
        known, own = learnt[:, 3] == group, held_out[:, 3] == group
        for column in range(3):
            made[known, column] = torch.from_numpy(as_varied(learnt[known, column], held_out[own, column])).float()
    return made


def fit_good(held_out: Tensor, learnt: Tensor, false_alarms: float) -> Fitted:
    """Estimate the scales of scores and maps.

    Args:
        held_out: Good parts as from :func:`good_parts`, ``(N, 4)``.
        learnt: The same of good parts that the model has learnt.
        false_alarms: Expected share of good parts called bad.

    Raises:
        ValueError: If there are fewer than five good parts in all.
    """
    own, known = (parts.double().numpy().T for parts in (held_out, learnt))
    scores, peaks, medians = (pooled(own[column], known[column]) for column in range(3))
    image, pixel = (
        scale_from_good(values, typical, false_alarms) for values, typical in ((scores, scores), (peaks, medians))
    )
    return Fitted(image, pixel, tuple(scores.tolist()))


def _where_bad(mask: Tensor | None, label: Tensor | None) -> Tensor | None:
    """Empty masks of N parts, of any shape, where the label ``(N,)`` or ``(N, 1)`` says good."""
    if mask is None or label is None:
        return mask
    return mask & label.reshape(-1, *[1] * (mask.dim() - 1))
