# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Heat maps: their captions, and where they draw outlines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.post_processing import PostProcessor
from PIL import Image

from anomalib_mkd.models.mmrd.depth_visualizer import DepthVisualizer
from anomalib_mkd.results.heat_maps import BACKGROUND, STRIP, HeatMapVisualizer, caption, captioned

if TYPE_CHECKING:
    from pathlib import Path

RED = (255, 0, 0)


def draw(folder: Path, *, bad: bool, score: float = 0.7, pixel_threshold: float = 0.5) -> np.ndarray:
    """The heat map of one grey image, with a spot above the threshold of pixels."""
    path = folder / "dent" / "0.png"
    path.parent.mkdir()
    Image.new("RGB", (32, 32), "gray").save(path)
    maps = torch.zeros(1, 32, 32)
    maps[0, 8:16, 8:16] = 0.9
    batch = ImageBatch(
        image=torch.zeros(1, 3, 32, 32),
        image_path=[str(path)],
        pred_score=torch.tensor([score]),
        pred_label=torch.tensor([bad]),
        anomaly_map=maps,
        pred_mask=maps > 0.5,
    )
    post_processor = PostProcessor()
    post_processor._image_threshold.fill_(1.0)
    post_processor._pixel_threshold.fill_(pixel_threshold)
    post_processor.enable_threshold_matching = False
    module = SimpleNamespace(post_processor=post_processor, pre_processor=None)
    HeatMapVisualizer(output_dir=folder / "images").on_test_batch_end(SimpleNamespace(), module, None, batch, 0)
    (file,) = (folder / "images").rglob("*.png")
    return np.asarray(Image.open(file))


def outlined(picture: np.ndarray) -> bool:
    return bool((picture[:-STRIP] == RED).all(-1).any())


def test_only_what_is_called_bad_is_outlined(tmp_path: Path) -> None:
    for bad in (True, False):
        (folder := tmp_path / str(bad)).mkdir()
        picture = draw(folder, bad=bad)
        assert outlined(picture) is bad
        assert picture[-1, 0].tolist() == list(Image.new("RGB", (1, 1), BACKGROUND[bad]).getpixel((0, 0)))  # type: ignore[arg-type]
    shapes = {draw_shape.shape for draw_shape in map(np.asarray, map(Image.open, tmp_path.rglob("images/**/*.png")))}
    assert len(shapes) == 1  # a good part keeps the panel


def test_without_a_threshold_of_pixels_nothing_is_outlined(tmp_path: Path) -> None:
    assert not outlined(draw(tmp_path, bad=True, pixel_threshold=float("nan")))


def item(**changes: Any) -> Any:
    fields = {"image_path": "a/test/dent/0.png", "pred_score": torch.tensor(0.954), "pred_label": torch.tensor(True)}
    return SimpleNamespace(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "threshold", "expected"),
    [
        ({"image_path": "a/test/dent/rgb/0.png"}, 0.5, "bad   score 0.95 (threshold 0.50)   dent/0.png"),
        ({}, 0.5, "bad   score 0.95 (threshold 0.50)   dent/0.png"),
        ({"pred_label": torch.tensor(False)}, 0.5, "good   score 0.95 (threshold 0.50)   dent/0.png"),
        ({}, None, "score 0.95 (no threshold)   dent/0.png"),
        (
            {"pred_score": torch.tensor(float("nan")), "pred_label": torch.tensor(False)},
            0.5,
            "bad   score nan (threshold 0.50)   dent/0.png",
        ),
        ({"pred_score": None}, 0.5, "bad   dent/0.png"),
    ],
)
def test_a_caption_says_what_is_known(changes: dict[str, Any], threshold: float | None, expected: str) -> None:
    assert caption(item(**changes), threshold) == expected


def test_any_name_fits() -> None:
    for text in ("x" * 500, "über <b>\n", "\udcff", "部品"):
        assert captioned(Image.new("RGB", (120, 10)), text, None).size == (120, 10 + STRIP)


@pytest.mark.parametrize("visualizer", [HeatMapVisualizer, DepthVisualizer])
def test_no_two_photos_of_scans_have_one_file(tmp_path: Path, visualizer: type[HeatMapVisualizer]) -> None:
    """In MVTec 3D-AD's layout, all photos lie in folders of one name; also behind a link, as a root of its own."""
    made = visualizer(output_dir=tmp_path / "images")
    places = [tmp_path / "real" / "part" / "test" / kind / "rgb" / "000.png" for kind in ("good", "object", "paper")]
    for root in (tmp_path / "real", tmp_path / "linked", None):
        trainer = SimpleNamespace(datamodule=SimpleNamespace(root=root, name="DepthFolder", category="part"))
        assert len({made.file_of(item(image_path=str(place)), trainer) for place in places}) == len(places)
