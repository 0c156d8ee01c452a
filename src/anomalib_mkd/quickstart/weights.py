# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which teacher a first run uses: ImageNet's if it can be had at once, else the embedded one."""

from __future__ import annotations

from typing import NamedTuple

from anomalib_mkd.check.options import check_weights
from anomalib_mkd.networks.backbone import QUICKSTART, RESNET18
from anomalib_mkd.networks.pretrained import cached_weights, why_unreachable, why_unwritable

HUB_SECONDS = 5
"""How long the hub may take to answer: the proxies of companies are slow, and without a network it fails at once."""


class Choice(NamedTuple):
    """A teacher.

    Attributes:
        weights: The model's argument.
        sentence: Which teacher that is, and why.
    """

    weights: str | None
    sentence: str

    @property
    def steps(self) -> int:
        """Default length of the training: either takes one to three minutes on two cores."""
        return 500 if self.weights == QUICKSTART else 300


def choose_weights(wanted: str, backbone: str) -> Choice:
    """Choose the teacher's weights.

    Args:
        wanted: ``"auto"``, ``"imagenet"``, ``"quickstart"`` or a file.
        backbone: The model's default teacher, by timm's name.

    Raises:
        ValueError: If the file does not exist.
    """
    theirs = f"ImageNet's {backbone}"
    if wanted == QUICKSTART:
        return Choice(QUICKSTART, "Teacher: the embedded one, as asked.")
    if wanted == "imagenet":
        return Choice(None, f"Teacher: {theirs}, as asked.")
    if wanted == "auto":
        return _at_once(backbone, theirs)
    check_weights(wanted)
    return Choice(wanted, f"Teacher: {backbone} from {wanted}.")


def _at_once(backbone: str, theirs: str) -> Choice:
    """Take ImageNet's weights if that costs no time to speak of."""
    if cached_weights(backbone):
        return Choice(None, f"Teacher: {theirs}, found in the Hugging Face cache.")
    if backbone != RESNET18:
        return Choice(QUICKSTART, f"Teacher: the embedded one. {theirs} is not cached, and is a large download.")
    reason = why_unreachable(backbone, HUB_SECONDS)
    if reason:
        return Choice(QUICKSTART, f"Teacher: the embedded one. {theirs} is not cached, and the hub is away: {reason}.")
    unwritable = why_unwritable()
    if unwritable:
        kept = f"its cache cannot be written: {unwritable}. Set HF_HOME to a writable folder for it"
        return Choice(QUICKSTART, f"Teacher: the embedded one. {theirs} is not cached, and {kept}.")
    return Choice(None, f"Teacher: {theirs}, a download of 47 MB, once.")
