# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What stops or spoils a training is found, named, and graded; what does not is no problem."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from anomalib_mkd.check import check_folder, check_layout
from tests.category_folders import draw_category
from tests.depth_folders import draw_mvtec3d

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return draw_category(tmp_path / "parts", train=20)


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def texts(folder: Path, **options: bool) -> list[str]:
    return [f"{each.level}: {each}" for each in check_folder(folder, **options).findings]


def test_nothing_is_said_of_a_good_folder(parts: Path) -> None:
    assert texts(parts) == []
    assert texts(parts, decode=False) == []


def test_depth_beside_the_photos_leads_to_what_reads_it(parts: Path) -> None:
    for folder in ("train/good", "test/dent"):
        save(parts / "depth" / folder / "000.png", np.full((64, 64), 600, np.uint16))
    assert texts(parts) == [
        "note: The depth in 'depth' is not for Parts: train Mmrd on DepthFolder with layout: folder."
    ]


def grey(size: tuple[int, int] = (64, 64), value: int = 100) -> np.ndarray:
    return np.full(size, value, np.uint8)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def turn(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (
        lambda root: (root / "train/good/x.jpg").touch(),
        "problem: 1 file that cannot be read (train/good/x.jpg: empty)",
    ),
    "truncated": (
        lambda root: truncate(root / "test/dent/000.jpg"),
        "problem: 1 file that cannot be read (test/dent/000.jpg: image file is truncated",
    ),
    "mask": (
        lambda root: (root / "ground_truth/dent/000_mask.png").write_text("no"),
        "problem: 1 file that cannot be read (ground_truth/dent/000_mask.png: not an image)",
    ),
    "deep": (
        lambda root: save(root / "train/good/x.png", np.full((64, 64), 999, np.uint16)),
        "problem: 1 image of more than 8 bits (train/good/x.png: 16 bits)",
    ),
    "deep colour": (
        lambda root: cv2.imwrite(str(root / "train/good/x.tif"), np.full((64, 64, 3), 999, np.uint16)),
        "problem: 1 image of more than 8 bits (train/good/x.tif: 16 bits)",
    ),
    "deep mask": (
        lambda root: cv2.imwrite(
            str(root / "ground_truth/dent/000_mask.png"), np.eye(64, dtype=np.uint16)[..., None].repeat(3, -1)
        ),
        "problem: 1 image of more than 8 bits (ground_truth/dent/000_mask.png: 16 bits)",
    ),
    "pages": (
        lambda root: save(
            root / "train/good/x.tif",
            np.full((64, 64, 3), 9, np.uint8),
            save_all=True,
            append_images=[Image.new("RGB", (64, 64))],
        ),
        "problem: 1 image of several pages (train/good/x.tif: 2 pages)",
    ),
    "turned": (
        lambda root: turn(root / "train/good/000.jpg"),
        "note: 1 image turned by EXIF data, and read upright. (train/good/000.jpg)",
    ),
    "hidden": (
        lambda root: (root / "train/good/._000.jpg").write_bytes(b"Mac OS X"),
        "note: 1 hidden file ignored. (train/good/._000.jpg)",
    ),
    "foreign": (
        lambda root: (root / "train/good/x.HEIC").touch(),
        "warning: 1 image of a format that is not read (train/good/x.HEIC)",
    ),
    "others": (
        lambda root: (root / "train/good/x.txt").touch(),
        "note: 1 file ignored, as the names are not those of images. (train/good/x.txt)",
    ),
    "no mask": (
        lambda root: (root / "ground_truth/dent/000_mask.png").unlink(),
        "problem: 1 image of bad parts without a mask (test/dent/000.jpg)",
    ),
    "two masks": (
        lambda root: shutil.copy(root / "ground_truth/dent/000_mask.png", root / "ground_truth/dent/000.png"),
        "problem: 1 image with several masks (test/dent/000.jpg: 2 masks)",
    ),
    "mask alone": (
        lambda root: save(root / "ground_truth/dent/9_mask.png", grey()),
        "warning: 1 mask without an image (ground_truth/dent/9_mask.png)",
    ),
    "mask of another size": (
        lambda root: save(root / "ground_truth/dent/000_mask.png", grey((32, 64))),
        "problem: 1 mask of another size than the image (ground_truth/dent/000_mask.png: 64 x 32, its image 64 x 64)",
    ),
    "shape": (
        lambda root: save(root / "train/good/x.png", np.full((64, 128, 3), 100, np.uint8)),
        "warning: 1 image of another shape (train/good/x.png: 128 x 64)",
    ),
    "colour": (
        lambda root: save(root / "test/good/x.png", grey()),
        "warning: 1 image in grey where others are in colour (test/good/x.png)",
    ),
    "large": (
        lambda root: save(root / "test/good/x.png", np.zeros((2048, 2048, 3), np.uint8)),
        "note: Models see 256 x 256 pixels by default: of 2048 x 2048, each rectangle of 8 x 8 pixels becomes one.",
    ),
    "in two roles": (
        lambda root: shutil.copy(root / "train/good/000.jpg", root / "test/dent/9.jpg"),
        "problem: 1 image in two roles at once (train/good/000.jpg = test/dent/9.jpg)",
    ),
    "good and bad": (
        lambda root: shutil.copy(root / "test/good/000.jpg", root / "test/dent/9.jpg"),
        "problem: 1 image in two roles at once (test/good/000.jpg = test/dent/9.jpg)",
    ),
    "repeated": (
        lambda root: shutil.copy(root / "train/good/000.jpg", root / "train/good/9.jpg"),
        "warning: 1 training image repeated (train/good/000.jpg = train/good/9.jpg)",
    ),
    "left out": (
        lambda root: save(root / "test/x.png", grey()),
        "warning: 1 image in 'test' that nothing reads",
    ),
    "no image": (
        lambda root: (root / "test/scratch").mkdir(),
        "warning: no image in 'test/scratch'",
    ),
    "no good test": (
        lambda root: shutil.rmtree(root / "test/good"),
        "note: No good parts to test on: one in five training images is held out for the test instead.",
    ),
    "no masks": (
        lambda root: shutil.rmtree(root / "ground_truth"),
        "note: No masks: the test compares images, not pixels.",
    ),
    "no bad": (
        lambda root: [shutil.rmtree(root / part) for part in ("test/dent", "ground_truth")],
        "note: No bad parts: training works, but the test cannot say how many are caught.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named(parts: Path, case: str) -> None:
    change, expected = CASES[case]
    change(parts)
    found = texts(parts)
    assert any(text.startswith(expected) for text in found), found
    levels = {text.split(":")[0] for text in found} - {"note", expected.split(":")[0]}
    assert levels <= {"problem"} if case in {"in two roles", "good and bad"} else not levels  # 9.jpg has no mask


def test_near_copies(parts: Path) -> None:
    with Image.open(parts / "train/good/003.jpg") as image:
        image.save(parts / "test/good/x.png")
        image.save(parts / "test/good/y.jpg", quality=80)
    found = texts(parts)
    assert found[0] == "problem: 1 image in two roles at once (train/good/003.jpg = test/good/x.png)"
    expected = "warning: 1 test image almost equal to a training image (test/good/y.jpg ~ train/good/003.jpg)"
    assert found[1:] == [expected]


@pytest.mark.parametrize(("images", "level"), [(4, "problem"), (5, "warning"), (19, "warning"), (20, None)])
def test_too_few_good_ones(tmp_path: Path, images: int, level: str | None) -> None:
    findings = check_folder(draw_category(tmp_path / "parts", train=images)).findings
    assert [each.level for each in findings] == ([level] if level else [])
    assert all(f"{images} images of good parts in 'train/good'" in each.text for each in findings)


def test_turned_photos_in_other_layouts(tmp_path: Path) -> None:
    """Anomalib's Folder sees them lying, and their depth may be turned or not."""
    for layout, level in (("good", "warning"), ("train/good/rgb", "problem")):
        source = draw_category(tmp_path / layout[:1] / "x", train=20) / "train" / "good"
        shutil.copytree(source, tmp_path / layout[:1] / "parts" / layout)
        turn(next((tmp_path / layout[:1] / "parts" / layout).glob("*.jpg")))
        assert [text[:30] for text in texts(tmp_path / layout[:1] / "parts") if "turned" in text] == [
            f"{level}: 1 image turned by EXIF"[:30]
        ]


def test_a_mask_of_the_photo_as_stored_is_refused(tmp_path: Path) -> None:
    parts = draw_category(tmp_path / "parts", train=20)
    save(parts / "test/dent/000.jpg", np.full((32, 64, 3), 99, np.uint8))
    save(parts / "ground_truth/dent/000_mask.png", grey((32, 64)))
    turn(parts / "test/dent/000.jpg")
    found = "ground_truth/dent/000_mask.png: 64 x 32, its image 32 x 64 once upright"
    assert f"problem: 1 mask of another size than the image ({found})" in texts(parts, decode=False)


def test_masks_elsewhere_are_no_problem(tmp_path: Path) -> None:
    """Outside MVTec AD's layout, masks that cannot be paired are left out of the configuration."""
    parts = draw_category(tmp_path / "x", train=20)
    for source, target in (("train/good", "good"), ("test/dent", "bad"), ("ground_truth/dent", "masks")):
        shutil.move(parts / source, tmp_path / "parts" / target)
    (tmp_path / "parts/masks/000_mask.png").unlink()
    (tmp_path / "parts/good/._000.jpg").touch()
    assert texts(tmp_path / "parts") == [
        "problem: 1 hidden file (good/._000.jpg)",
        "note: No good parts to test on: one in five training images is held out for the test instead.",
        "warning: 1 image of bad parts without a mask (bad/000.jpg)",
    ]


def test_several_categories(tmp_path: Path) -> None:
    for name in ("bolt", "nut"):
        draw_category(tmp_path / name)
    assert texts(tmp_path) == ["problem: 2 folders of parts, 'bolt', 'nut', instead of one"]


@pytest.mark.parametrize(
    "name", ["a [red]b[/red] 'c' \"d\".jpg", "<script>alert(1)</script>.jpg", "Größe \x1b[31m\n.jpg"]
)
def test_names_are_text(parts: Path, name: str) -> None:
    path = parts / "train" / "good" / name.replace("/", "")
    path.touch()
    (text,) = texts(parts)
    assert all(letter.isprintable() for letter in text)
    assert name.replace("/", "").replace("\x1b", "\\x1b").replace("\n", "\\n") in text


def test_a_folder_for_the_quick_start(parts: Path) -> None:
    assert check_layout(parts) == []
    for path in sorted((parts / "train" / "good").iterdir())[9:]:
        path.unlink()
    (warning,) = check_layout(parts)
    assert warning.endswith(
        "only 9 images of good parts in 'train/good'. Take 20 or more: one in five sets the threshold."
    )


@pytest.mark.parametrize("part", ["train/good", "test/good", "test/dent", "test"])
def test_the_quick_start_needs_every_part(parts: Path, part: str) -> None:
    shutil.rmtree(parts / "ground_truth")
    shutil.rmtree(parts / part)
    with pytest.raises(ValueError, match=r"^Expected .*, got (none|no) .*\. Put"):
        check_layout(parts)


def test_the_quick_start_names_the_first_problem(parts: Path) -> None:
    truncate(parts / "train/good/001.jpg")
    with pytest.raises(
        ValueError, match=r"^Expected a folder of parts to train on, got 1 file that cannot be read \(tr"
    ):
        check_layout(parts)
    with pytest.raises(FileNotFoundError, match="which is not there"):
        check_layout(parts / "gone")


def test_good_parts_that_would_count_as_defects(parts: Path) -> None:
    (parts / "test/good").rename(parts / "test/OK")
    assert "problem: 'test/OK' counts as a defect" in texts(parts)


def test_images_alone_beside_folders_of_images(tmp_path: Path) -> None:
    """Even those of earlier results would be read by anomalib's Folder."""
    for number in range(20):
        save(tmp_path / f"{number}.png", np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8))
    assert not any(text.startswith("problem") for text in texts(tmp_path))
    for name in ("results/Mkd/0.png", "test/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        save(tmp_path / name, grey())
    (found,) = (text for text in texts(tmp_path) if text.startswith("problem"))
    assert found.startswith("problem: 2 images in folders within those of parts, which anomalib's Folder would read")


def test_masks_and_roles_of_scans(tmp_path: Path) -> None:
    base = draw_mvtec3d(tmp_path / "part")
    (base / "test/bad/gt").rename(base / "test/bad/ground_truth")  # 3D-ADAM's name
    shutil.copytree(base / "test/bad/rgb", base / "train/bad/rgb")
    roles = {group.name: group.role for group in check_folder(base).layout.groups}
    assert roles["test/bad/ground_truth"] == "mask"
    assert roles["train/bad/rgb"] == "left out"


def test_sides_of_a_wide_image_shrink_apart(parts: Path) -> None:
    save(parts / "test/good/x.png", np.zeros((400, 4000, 3), np.uint8))
    assert any("of 4000 x 400, each rectangle of 16 x 1.6 pixels becomes one" in text for text in texts(parts))
