# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints of commit 0a145f3, before 0.1.0: those with the settings that were kept predict as they did there.

They were written there after one epoch on drawn images of 64 pixels, with timm's smallest ResNet as teacher. Mmrd,
whose decoder needs a ResNet-18, has its large tensors replaced by constants, so that the file stays small.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from anomalib_mkd import Dcam, MixedDistillation, Mkd, Mmrd, __version__
from anomalib_mkd.training.checkpoints import RETIRED

VERSION = re.escape(f"anomalib_mkd {__version__}")
FOLDER = Path(__file__).parents[1] / "checkpoints"
EXPECTED = {
    MixedDistillation: ((3.203188, 2.944088), 2.950036),
    Dcam: ((3.168669, 2.839431), 2.876813),
    Mkd: ((1.057309, 0.8586048), 0.346075),
    Mmrd: ((4.812918, -2.438078), 1.187296),
}
"""Model to raw scores and the mean of the maps, as predicted by commit 0a145f3."""


def file_of(model: type) -> Path:
    return FOLDER / f"{model.__name__}-0a145f3.ckpt"


@pytest.mark.parametrize("model", EXPECTED, ids=lambda model: model.__name__)
def test_an_old_checkpoint_predicts_as_it_did(model: Any, no_network: None) -> None:  # noqa: ARG001
    loaded = model.load_from_checkpoint(file_of(model), weights_only=True, map_location="cpu").eval()
    loaded.post_processor = None
    photos = torch.linspace(0, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
    depth = torch.linspace(0.5, 1.5, 2 * 64 * 64).reshape(2, 1, 64, 64)
    with torch.inference_mode():
        prediction = loaded(photos, depth) if model is Mmrd else loaded(photos)
    scores, mean = EXPECTED[model]
    assert prediction.pred_score.tolist() == pytest.approx(scores, rel=1e-4)
    assert prediction.anomaly_map.mean().item() == pytest.approx(mean, rel=1e-4)


def test_a_checkpoint_may_lie_at_an_address(no_network: None) -> None:  # noqa: ARG001
    """Lightning reads them from other machines, too."""
    loaded = Mkd.load_from_checkpoint(f"file://{file_of(Mkd)}", weights_only=True, map_location="cpu")
    assert loaded.hparams["relative_value"] is False


def changed(model: type, folder: Path, **settings: Any) -> Path:
    """An old checkpoint of other settings."""
    checkpoint = torch.load(file_of(model), weights_only=True)
    checkpoint["hyper_parameters"] |= settings
    path = folder / "changed.ckpt"
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (MixedDistillation, {"align": "fine"}),
        (MixedDistillation, {"map_source": "mixed"}),
        (Dcam, {"reduction_ratio": 4}),
        (Mkd, {"direction_only": True}),
        (Mmrd, {"inject": "replace"}),
        (Mmrd, {"level_fusion": "product"}),
    ],
)
def test_a_setting_that_is_gone_is_refused(model: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    """Also where the weights would fit, and predictions would silently be others."""
    path = changed(model, tmp_path, **settings)
    (name, value) = next(iter(settings.items()))
    left = RETIRED[model.__name__][name]
    sentence = rf"anomalib_mkd 0\.1\.0 can load, got '{path}': Expected a checkpoint with {name}={left!r}.*{value!r}"
    with pytest.raises(ValueError, match=sentence):
        model.load_from_checkpoint(path, weights_only=True)


def test_a_choice_that_is_gone_is_refused(tmp_path: Path) -> None:
    path = changed(Mmrd, tmp_path, target_fusion="energy")
    sentence = rf"{VERSION} can load, got '{path}': Expected target_fusion to be .*, got 'energy'"
    with pytest.raises(ValueError, match=sentence):
        Mmrd.load_from_checkpoint(path, weights_only=True)
