# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Heat maps that say which file they show, its score and its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.item_visualizer import visualize_image_item
from PIL import Image, ImageDraw, ImageFont

from anomalib_mkd.results.predictions import RGB_FOLDER, place_of, thresholds, verdict, word

LABELS = {"size": 15}
"""Text of the panels: anomalib's default size cuts off its longest label."""
STRIP = 26
"""Height of the caption in pixels."""
BACKGROUND = {True: "#a31515", False: "#1e6b3a", None: "#444444"}
"""Colour behind the caption, by verdict; white text on each has a contrast of at least 6."""


class HeatMapVisualizer(ImageVisualizer):
    """anomalib's visualizer with a caption, and with outlines only in images that are called bad.

    anomalib outlines every region above the threshold of pixels, whatever the verdict, and writes neither score nor
    verdict. Arguments as for ``ImageVisualizer``.
    """

    def on_test_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one file per image of a batch, behind the post-processor."""
        del outputs, batch_idx, dataloader_idx
        if self.output_dir is None:
            self.output_dir = Path(trainer.default_root_dir) / "images"
        threshold, pixel_threshold = thresholds(pl_module.post_processor)
        for item in batch:
            bad = verdict(item.pred_score, item.pred_label, threshold)
            if item.pred_mask is not None and not (bad and pixel_threshold is not None):
                item.pred_mask = item.pred_mask.new_zeros(item.pred_mask.shape, dtype=bool)
            panels = self.panels(item, pl_module)
            if panels is not None:
                captioned(panels, caption(item, threshold), bad).save(self.file_of(item, trainer))

    def panels(self, item: Any, module: Any) -> Image.Image | None:
        """Draw the panels of an image side by side; ``None`` if there are none.

        Args:
            item: The image and its predictions.
            module: The model.
        """
        del module
        drawn: Image.Image | None = visualize_image_item(
            item,
            fields=self.fields,
            overlay_fields=self.overlay_fields,
            field_size=self.field_size,
            fields_config=self.fields_config,
            overlay_fields_config=self.overlay_fields_config,
            text_config=self.text_config,
        )
        return drawn

    def file_of(self, item: Any, trainer: Any) -> Path:
        """Name the file of an image as anomalib does, by its folders under that of the data."""
        data = getattr(trainer, "datamodule", None)
        place = place_of(item.image_path or "", getattr(data, "root", None))
        if data is not None and len(place.parts) > 2:  # anomalib keeps one folder
            file: Path = Path(self.output_dir or "") / place
            file.parent.mkdir(parents=True, exist_ok=True)
            return file
        return generate_output_filename(
            item.image_path or "",
            self.output_dir or "",
            dataset_name=getattr(data, "name", None),
            category=getattr(data, "category", None),
        )


def caption(item: Any, threshold: float | None) -> str:
    """Say what an image shows.

    Args:
        item: The image and its predictions.
        threshold: Of the scores; ``None`` if there is none.

    Returns:
        For example ``"bad   score 0.95 (threshold 0.50)   dent/000.png"``.
    """
    path = Path(item.image_path or "")
    folder = path.parent.parent if path.parent.name == RGB_FOLDER else path.parent
    parts = [word(verdict(item.pred_score, item.pred_label, threshold)), f"{folder.name}/{path.name}"]
    if item.pred_score is not None:
        limit = "no threshold" if threshold is None else f"threshold {threshold:.2f}"
        parts.insert(1, f"score {float(item.pred_score):.2f} ({limit})")
    return "   ".join(filter(None, parts))


def captioned(picture: Image.Image, text: str, bad: bool | None) -> Image.Image:  # the verdict
    """Add a strip with a line of text below an image; what does not fit is left out at the end.

    Args:
        picture: Of any width.
        text: What to write.
        bad: The verdict, for the colour.
    """
    wide = Image.new("RGB", (picture.width, picture.height + STRIP), BACKGROUND[bad])
    wide.paste(picture, (0, 0))
    font = ImageFont.load_default(size=15)
    text = text.encode(errors="replace").decode().replace("\n", " ")
    while ImageDraw.Draw(wide).textlength(text, font=font) > picture.width - 20:
        text = text[:-2] + "…"
    ImageDraw.Draw(wide).text((10, picture.height + 3), text, fill="white", font=font)
    return wide
