# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One folder of parts in MVTec AD's layout, of any image format."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from anomalib.data import Folder, PredictDataset
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_mkd.data import MultiCategory, Parts, Quickstart
from anomalib_mkd.data.reading import warn_of_pictures
from anomalib_mkd.deploy.pictures import photo as deployed
from tests.category_folders import draw_category


def ready(root: Path, category: str = "part", **arguments: object) -> Parts:
    datamodule = Parts(root=root, category=category, num_workers=0, **arguments)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize(
    ("suffix", "mask"), [(".jpg", "{}_mask.png"), (".JPG", "{}.png"), (".bmp", "{}_mask.bmp"), (".tiff", "{}.PNG")]
)
def test_any_format_with_masks_of_either_name(tmp_path: Path, suffix: str, mask: str) -> None:
    draw_category(tmp_path / "part", suffix=suffix, mask=mask)
    datamodule = ready(tmp_path)
    assert [len(data) for data in (datamodule.train_data, datamodule.val_data, datamodule.test_data)] == [4, 1, 4]
    batch = next(iter(datamodule.test_dataloader()))
    assert batch.gt_label.sum() == 2
    assert torch.equal(batch.gt_mask.flatten(1).any(1), batch.gt_label)
    assert (batch.gt_mask.flatten(1).sum(1)[batch.gt_label] == 16 * 16).all()


def test_thresholds_come_from_training_images(tmp_path: Path) -> None:
    draw_category(tmp_path / "part")
    datamodule = ready(tmp_path)
    assert all("/train/good/" in path for path in datamodule.val_data.samples["image_path"])
    again = ready(tmp_path)
    assert list(again.val_data.samples["image_path"]) == list(datamodule.val_data.samples["image_path"])


def test_a_validation_folder_is_refused(tmp_path: Path) -> None:
    draw_category(tmp_path / "part")
    made = {"root": tmp_path, "val_split_mode": "from_dir"}
    sizes = {"image_size": 64, "train_images": 2, "test_good": 1, "per_defect": 1}
    for data in (
        Parts(category="part", **made),
        Quickstart(category="metal", **made, **sizes),
        MultiCategory("Parts", ["part"], **made),
    ):
        data.prepare_data()
        with pytest.raises(ValueError, match=r"^Expected val_split_mode to be one of none, .*, got from_dir\. Set one"):
            data.setup()


def test_masks_go_by_name_and_not_by_order(tmp_path: Path) -> None:
    """``a`` sorts before ``a_b``, but ``a_mask`` after ``a_b_mask``: anomalib, which pairs by order, refuses them."""
    folder = draw_category(tmp_path / "part")
    for home, ending in (("test/dent", ".jpg"), ("ground_truth/dent", "_mask.png")):
        (folder / home / f"000{ending}").rename(folder / home / f"a{ending}")
        (folder / home / f"001{ending}").rename(folder / home / f"a_b{ending}")
    samples = ready(tmp_path).test_data.samples
    pairs = {
        Path(image).stem: Path(mask).stem for image, mask in zip(samples.image_path, samples.mask_path, strict=True)
    }
    assert pairs["a"] == "a_mask"
    assert pairs["a_b"] == "a_b_mask"


def test_without_masks_only_images_are_scored(tmp_path: Path) -> None:
    draw_category(tmp_path / "part", mask=None)
    datamodule = ready(tmp_path)
    assert datamodule.task == "classification"
    assert next(iter(datamodule.test_dataloader())).gt_mask is None


def test_without_normal_test_images_some_training_images_are_moved(tmp_path: Path) -> None:
    draw_category(tmp_path / "part", good=0)
    datamodule = ready(tmp_path)
    normal = datamodule.test_data.samples.query("label_index == 0")
    assert len(normal) == 1
    assert not set(normal.image_path) & set(datamodule.train_data.samples.image_path)


def test_a_nested_category(tmp_path: Path) -> None:
    draw_category(tmp_path / "set" / "part")
    assert len(ready(tmp_path, "set/part").test_data) == 4


def test_the_folder_itself(tmp_path: Path) -> None:
    """``root`` alone and ``root`` with ``category`` read the same."""
    draw_category(tmp_path / "my parts (new)")
    one = Parts(root=tmp_path / "my parts (new)", num_workers=0)
    one.setup()
    other = ready(tmp_path, "my parts (new)")
    assert (one.name, one.category) == ("Parts", "my parts (new)") == (other.name, other.category)
    assert list(one.test_data.samples.image_path) == list(other.test_data.samples.image_path)


@pytest.mark.parametrize("missing", ["ground_truth", "test/dent", "test/good", "test"])
def test_only_good_training_images_are_required(tmp_path: Path, missing: str) -> None:
    folder = draw_category(tmp_path / "part", train=10, mask="{}_mask.png" if missing == "ground_truth" else None)
    shutil.rmtree(folder / missing)
    datamodule = ready(tmp_path)
    for data in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader()):
        assert len(next(iter(data)).image)
    labels = set(datamodule.test_data.samples.label_index)
    assert labels == ({0} if missing in {"test/dent", "test"} else {0, 1})


def test_missing_folders_name_what_is_there(tmp_path: Path) -> None:
    draw_category(tmp_path / "part")
    draw_category(tmp_path / "piece")
    with pytest.raises(FileNotFoundError, match=r"train/good in '.*all', got none.*part, piece"):
        ready(tmp_path, "all")
    with pytest.raises(FileNotFoundError, match=r"train/good in .*, got none.*part, piece"):
        Parts(root=tmp_path).setup()
    with pytest.raises(FileNotFoundError, match=r"root='.*nowhere', which is not there"):
        ready(tmp_path / "nowhere")


@pytest.mark.parametrize("change", ["rename", "copy"])
def test_every_defective_image_has_one_mask(tmp_path: Path, change: str) -> None:
    masks = draw_category(tmp_path / "part") / "ground_truth" / "dent"
    if change == "rename":
        (masks / "000_mask.png").rename(masks / "1000_mask.png")
    else:
        (masks / "000.png").write_bytes((masks / "000_mask.png").read_bytes())
    with pytest.raises(ValueError, match=r"^Expected .* got 1 image .* mask.* \(test/dent/000.jpg.*\) in .* Give"):
        ready(tmp_path)


def test_masks_of_images_in_subfolders(tmp_path: Path) -> None:
    folder = draw_category(tmp_path / "part")
    for home in ("test", "ground_truth"):
        (folder / home / "dent" / "camera1").mkdir()
    (folder / "test/dent/000.jpg").rename(folder / "test/dent/camera1/001.jpg")
    (folder / "ground_truth/dent/000_mask.png").rename(folder / "ground_truth/dent/camera1/001_mask.png")
    samples = ready(tmp_path).test_data.samples.query("label_index == 1")
    assert len(samples) == 2
    for image, mask in zip(samples.image_path, samples.mask_path, strict=True):
        assert Path(mask).parent.name == Path(image).parent.name


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    folder = draw_category(tmp_path / "part")
    (folder / "train/good/._000.jpg").write_bytes(b"Mac OS X")
    (folder / "test/dent/._000.jpg").write_bytes(b"Mac OS X")
    datamodule = ready(tmp_path)
    assert len(datamodule.train_data) + len(datamodule.val_data) == 5
    assert len(datamodule.test_data) == 4


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = draw_category(tmp_path / "part")
    whole = (folder / "test/good/000.jpg").read_bytes()
    (folder / "test/good/000.jpg").write_bytes(whole[:-200])  # its header is whole
    datamodule = ready(tmp_path)
    with pytest.raises(ValueError, match=r"^Expected a readable image in .*test/good/000.jpg, got OSError.*\. Save"):
        list(datamodule.test_dataloader())
    (folder / "test/good/001.jpg").unlink()
    (folder / "test/good/001.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"got 1 file that cannot be read \(test/good/001.jpg: a broken link\) in"):
        ready(tmp_path)


def test_deep_images_are_refused(tmp_path: Path) -> None:
    folder = draw_category(tmp_path / "part")
    Image.fromarray(np.full((64, 64), 30000, np.uint16)).save(folder / "train/good/deep.png")
    with pytest.raises(ValueError, match=r"got 1 image of more than 8 bits \(train/good/deep.png: 16 bits\)"):
        ready(tmp_path)


def test_warnings_come_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_category(tmp_path / "part")
    datamodule = ready(tmp_path)
    datamodule.setup()
    (warning,) = (record.message for record in caplog.records if "images of good parts" in record.message)
    text = "only 5 images of good parts in 'train/good'. Take 20 or more: one in five sets the threshold."
    assert warning == f"{tmp_path / 'part'}: {text}"


def photo(path: Path, shape: tuple[int, int], turn: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    pixels = np.zeros(shape, np.uint8)
    pixels[:8] = 255  # the upper rows as stored
    Image.fromarray(pixels).save(path, exif=exif)


def test_turned_photos_are_read_upright_as_in_deployment(tmp_path: Path) -> None:
    folder = draw_category(tmp_path / "part")
    photo(folder / "test/dent/000.jpg", (32, 64), turn=6)
    mask = np.zeros((64, 32), np.uint8)
    mask[:, -8:] = 255  # the same edge as viewers see it
    Image.fromarray(mask).save(folder / "ground_truth/dent/000_mask.png")
    datamodule = ready(tmp_path)
    data = datamodule.test_data
    item = data[list(data.samples.image_path).index(str(folder / "test/dent/000.jpg"))]
    assert item.image.shape == (3, 64, 32)
    assert (item.image[0].round() == item.gt_mask).all()
    np.testing.assert_array_equal(item.image[None].numpy(), deployed(folder / "test/dent/000.jpg"))


@pytest.mark.parametrize("change", ["size", "turned"])
def test_a_mask_of_another_size_is_refused(tmp_path: Path, change: str) -> None:
    folder = draw_category(tmp_path / "part")
    mask = folder / "ground_truth/dent/000_mask.png"
    if change == "turned":
        photo(folder / "test/dent/000.jpg", (32, 64), turn=6)
    Image.fromarray(np.zeros((32, 64), np.uint8)).save(mask)
    with pytest.raises(ValueError, match=r"got 1 mask of another size than the image \(ground_truth/dent/000_mask"):
        ready(tmp_path)
    draw_category(tmp_path / "other")
    datamodule = ready(tmp_path, "other")
    Image.fromarray(np.zeros((32, 60), np.uint8)).save(tmp_path / "other/ground_truth/dent/000_mask.png")
    with pytest.raises(ValueError, match=r"^Expected a mask of its image's size, 64 x 64 .* in .*000_mask.png, got"):
        list(datamodule.test_data)


@pytest.mark.parametrize("values", [(0, 1, 2), (0, 1000, 60000), tuple(range(0, 240, 10))])
def test_masks_with_other_values(tmp_path: Path, values: tuple[int, ...]) -> None:
    """Numbers of defects, 16 bits, soft edges."""
    folder = draw_category(tmp_path / "part")
    kind = np.uint16 if max(values) > 255 else np.uint8
    rows = np.resize(np.array(values, kind), 64)[:, None].repeat(64, 1)
    Image.fromarray(rows).save(folder / "ground_truth/dent/000_mask.png")
    wanted = rows > (values[-1] / 2 if len(values) > 3 else 0)
    data = ready(tmp_path).test_data
    item = data[list(data.samples.image_path).index(str(folder / "test/dent/000.jpg"))]
    np.testing.assert_array_equal(item.gt_mask.numpy(), wanted)


@pytest.mark.parametrize("kind", ["16 bits", "16 bits in colour", "pages", "turned", "usual"])
def test_anomalibs_own_reader_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    folder = draw_category(tmp_path / "part")
    if kind == "16 bits":
        Image.fromarray(np.full((64, 64), 30000, np.uint16)).save(folder / "train/good/odd.png")
    elif kind == "16 bits in colour":
        cv2.imwrite(str(folder / "train/good/odd.png"), np.full((64, 64, 3), 4000, np.uint16))
    elif kind == "pages":
        page = Image.new("RGB", (64, 64))
        page.save(folder / "train/good/odd.tif", save_all=True, append_images=[page])
    elif kind == "turned":
        photo(folder / "train/good/odd.jpg", (32, 64), turn=6)
    whole = {"test_split_mode": "none", "val_split_mode": "none"}  # a random split may leave out the odd one
    theirs = Folder("part", normal_dir="train/good", root=folder, num_workers=0, **whole)
    theirs.setup()
    mixed = MultiCategory(datamodules=[theirs], num_workers=0)
    mixed.setup()
    for data in (theirs.train_data, mixed.train_data, PredictDataset(folder / "train/good")):
        caplog.clear()
        warn_of_pictures([DataLoader(data)])
        found = [record.getMessage() for record in caplog.records]
        assert len(found) == (kind != "usual")
        assert all(re.match(r"Expected upright images .*, got .*odd\.\w+.* and 0 more\.", text) for text in found)


def test_own_readers_need_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = draw_category(tmp_path / "part", train=20)
    photo(folder / "train/good/odd.jpg", (32, 64), turn=6)
    datamodule = MultiCategory(categories=["part"], root=tmp_path, num_workers=0)
    datamodule.setup()
    caplog.clear()
    warn_of_pictures(datamodule.train_dataloader())
    assert not caplog.records
