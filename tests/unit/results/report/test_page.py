# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The page as text, and as a browser shows it."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from datetime import datetime, timezone
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_mkd.results.predictions import Prediction
from anomalib_mkd.results.report.outliers import most_suspicious
from anomalib_mkd.results.report import Gallery, Run, write_report
from anomalib_mkd.results.report.gallery import TRAINED
from anomalib_mkd.results.verdicts import Alternative, Counts

RUN = Run(
    command="test",
    model="MixedDistillation",
    data="screw",
    date=datetime(2026, 11, 28, 19, 30, tzinfo=timezone.utc),
    machine="a processor; 2 cores",
    arguments={"weights": "quickstart"},
    versions={"anomalib": "2.7.0"},
    metrics={"image_AUROC": 0.987},
    training_seconds=61.0,
    seconds=2.5,
    pictures=50,
    megabytes=12.3,
    parameters=1_234_567,
    alternatives=(
        Alternative(0.01, 0.5, Counts(9, 12), Counts(0, 12)),
        Alternative(0.1, 0.46, Counts(11, 12), Counts(1, 12)),
    ),
)


def picture(path: Path, size: tuple[int, int] = (60, 40)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).save(path, "PNG")
    return str(path)


def row(
    file: str, score: float, *, truth: bool | None = None, threshold: float | None = 0.5, **more: Any
) -> Prediction:
    bad = None if threshold is None else not score <= threshold
    return Prediction(file, score, bad, threshold, kind=Path(file).parent.name, truth=truth, **more)


def parts(folder: Path, count: int = 12, **more: Any) -> list[Prediction]:
    """Good parts that score from 0.2 on, and bad ones from 0.45 on."""
    return [
        row(picture(folder / kind / f"{i}.png"), start + i / 40, truth=truth, **more)
        for kind, start, truth in (("good", 0.2, False), ("dent", 0.45, True))
        for i in range(count)
    ]


def page(
    path: Path,
    rows: list[Prediction],
    training: list[Prediction] | None = None,
    *,
    maps: bool = True,
    masks: bool = True,
) -> str:
    """Write a report, and return its text."""
    gallery, trained = Gallery(), Gallery(TRAINED)
    values, mask = torch.zeros(1, 16, 16), torch.zeros(16, 16)
    values[:, 4:8, 4:8], mask[4:8, 4:8] = 0.9, 1
    for each in rows:
        gallery.add(each, values if maps else None, mask * bool(each.truth) if masks else None)
    for each in training or []:
        trained.add(each, values if maps else None)
    write_report(path, RUN, rows, gallery, most_suspicious(training or []), trained.shown("training"))
    assert [file for file in path.parent.iterdir() if ".part." in file.name] == []
    return path.read_text(encoding="utf-8")


def words(html: str) -> str:
    """The page without its marks."""
    html = re.sub(r"<(style|svg).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_everything_is_there(tmp_path: Path) -> None:
    training = [row(picture(tmp_path / "train" / f"{i}.png"), 0.2 + i / 1000) for i in range(20)]
    suspect = row(picture(tmp_path / "train" / "odd.png"), 0.8)
    text = words(page(tmp_path / "report.html", parts(tmp_path), [*training, suspect]))
    for expected in (
        "9 of 12 bad parts caught, 0 of 12 good parts called bad",
        "Bad parts: 9 caught, 3 missed",
        "Good parts: 12 called good, 0 called bad",
        "MixedDistillation on screw",
        "2026-11-28 19:30",
        "A threshold just below 0.450, the lowest bad part, catches every bad part and calls 16.7 % of the good ones bad.",
        "One of 0.475, the highest good part, calls no good part bad and catches 83.3 % of the bad ones.",
        "Area 0.986",
        "now: 0.01 9 of 12 0 of 12 0.500 0.1 11 of 12 1 of 12 0.460",
        "All heat maps of this page share one scale: 0.000 0.900",
        "No good part was called bad.",
        "dent/0.png 0.450 called good",
        "dent bad 9 of 12 0.450 0.58",
        "1 of 21 training images looked at scores far above the others",
        "1 of them is called bad by this model: look at it, too.",
        "train/odd.png 0.800 called bad far outside",
        "image_AUROC 0.987",
        "50 ms per image (50 in 2.5 s)",
        "12.3 MB",
        "1,234,567 parameters",
        "a processor; 2 cores",
        "anomalib 2.7.0",
        "weights quickstart",
    ):
        assert expected in text


def test_nothing_is_fetched_and_no_script_runs(tmp_path: Path) -> None:
    html = page(tmp_path / "report.html", parts(tmp_path))
    assert "default-src 'none'" in html
    assert "<script" not in html
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]*)|url\(["']?([^)"']*)""", html)
    assert addresses
    assert all("".join(address).startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert all(re.findall(r'<img [^>]*alt="([^"]*)"', html))
    assert html.count("<img ") == html.count("alt=")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], ["No images were predicted"]),
        ([("good", 0.2, False)], ["no bad parts among the images", "0 of 1 good parts called bad"]),
        ([("dent", 0.2, True)], ["no good parts among the images", "0 of 1 bad parts caught"]),
        (
            [("x", 0.7, None), ("x", 0.1, None)],
            [
                "1 of 2 parts called bad",
                "unknown to the data",
                "Half of the images score below 0.400.",
                "Highest scores",
            ],
        ),
        ([("good", 0.3, False), ("dent", 0.3, True)], ["0 of 1 bad parts caught", "Area 0.500"]),
        (
            [("good", math.nan, False), ("dent", 0.9, True)],
            ["1 image has a score that is not a number", "nan called bad"],
        ),
        ([("good", math.nan, False), ("dent", math.inf, True)], ["2 images have", "nothing to draw"]),
    ],
)
def test_a_missing_part_is_one_sentence(
    tmp_path: Path, rows: list[tuple[str, float, bool | None]], expected: list[str]
) -> None:
    made = [row(picture(tmp_path / kind / f"{score}.png"), score, truth=truth) for kind, score, truth in rows]
    text = words(page(tmp_path / "report.html", made))
    for sentence in expected:
        assert sentence in text


def test_what_has_no_number_is_no_reason_to_say_none(tmp_path: Path) -> None:
    rows = [row(picture(tmp_path / "good" / "0.png"), math.nan, truth=False), *parts(tmp_path)[12:]]
    text = words(page(tmp_path / "report.html", rows))
    assert "1 of 1 good parts called bad" in text
    assert "No good part was called bad." not in text


def test_without_a_threshold_no_part_is_good_or_bad(tmp_path: Path) -> None:
    text = words(page(tmp_path / "report.html", parts(tmp_path, threshold=None)))
    assert "No threshold" in text
    assert "called good" not in text
    assert "Missed" not in text


def test_without_maps_or_masks_a_sentence_says_so(tmp_path: Path) -> None:
    text = words(page(tmp_path / "report.html", parts(tmp_path), maps=False, masks=False))
    assert "no anomaly maps" in text
    assert "no masks" in text


@pytest.mark.parametrize("content", [None, b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_picture_has_a_placeholder(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert "could not be read" in page(tmp_path / "report.html", [row(str(tmp_path / "a.png"), 0.9)])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_grey_values_of_any_depth_are_seen(tmp_path: Path, dtype: Any) -> None:
    Image.fromarray((np.eye(30) * 900 + 100).astype(dtype)).save(tmp_path / "a.tiff")
    html = page(tmp_path / "report.html", [row(str(tmp_path / "a.tiff"), 0.9)])
    assert 'alt="Image a.tiff"' in html


def test_names_are_text(tmp_path: Path) -> None:
    names = [
        "<script>alert(1)<",
        'it\'s "quoted" & spaced',
        "${{7*7}} {% x %}",
        "é" * 100,
        "a\u202eb",
        os.fsdecode(b"\xff\xfe"),
    ]
    rows = [row(picture(tmp_path / f"{name}.png"), 0.9, truth=True, category=name) for name in names]
    html = page(tmp_path / "report.html", rows)
    assert "<script" not in html
    for name in names[:3]:
        assert name in unescape(html)
    assert "49" not in words(html)
    assert "\\udcff\\udcfe" in html


def test_pictures_of_one_name_differ_by_their_folders(tmp_path: Path) -> None:
    rows = [row(picture(tmp_path / kind / "rgb" / "000.png"), 0.9, truth=True) for kind in ("dent", "cut")]
    html = page(tmp_path / "report.html", rows)
    assert "dent/rgb/000.png" in html
    assert "cut/rgb/000.png" in html
    assert str(tmp_path) not in html


def test_a_missed_part_does_not_appear_twice_as_the_lowest(tmp_path: Path) -> None:
    text = words(page(tmp_path / "report.html", parts(tmp_path, count=40)))
    assert text.count("dent/0.png") <= 2  # with the alternative texts left out, once


def test_categories_have_their_own_thresholds_and_counts(tmp_path: Path) -> None:
    rows = parts(tmp_path / "a", category="nuts") + parts(tmp_path / "b", category="bolts", threshold=0.31)
    text = words(page(tmp_path / "report.html", rows))
    assert "bolts 12 of 12 7 of 12 0.310" in text
    assert "nuts 9 of 12 0 of 12 0.500" in text
    assert "0.310 to 0.500, by category" in text


def test_a_folder_for_each_part_is_no_kind(tmp_path: Path) -> None:
    rows = [row(picture(tmp_path / f"kos{number:02}" / "0.png"), 0.9, truth=True) for number in range(11)]
    table = page(tmp_path / "report.html", rows).split('<section id="kinds">')[1].split("</section>")[0]
    assert words(table).count("11 of 11") == 1
    assert "kos" not in table


def test_ten_thousand_pictures_stay_small(tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{i}.png", (600, 400)) for i in range(30)]
    draw = np.random.default_rng(0).random
    rows = [
        row(files[i % 30], float(draw()), truth=bool(i % 3), category=f"c{i % 20}", threshold=0.3 + (i % 20) / 50)
        for i in range(10_000)
    ]
    training = [row(files[i % 30], float(draw())) for i in range(10_000)]
    page(tmp_path / "report.html", rows, training)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_all_pictures_without_an_error(tmp_path: Path, width: int) -> None:
    names = ["<b>&\"'.png", "long" * 50 + ".png"]
    rows = [*parts(tmp_path), *(row(picture(tmp_path / name), 0.9, truth=True) for name in names)]
    page(tmp_path / "report.html", rows, rows)

    def opened(file: Path) -> subprocess.CompletedProcess[str]:
        command = f"{CHROMIUM} --headless --no-sandbox --disable-gpu --enable-logging=stderr --window-size={width},900"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        return subprocess.run(  # noqa: S603
            [*command.split(), profile, "--dump-dom", file.as_uri()], capture_output=True, text=True, check=True
        )

    assert "CONSOLE" not in opened(tmp_path / "report.html").stderr

    # The page itself allows no script. A copy that does measures it.
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    probe = """<script>addEventListener("load", () => {
        const images = [...document.images];
        document.body.dataset.images = images.length;
        document.body.dataset.broken = images.filter((image) => !image.naturalWidth).length;
        document.body.dataset.overflow = document.documentElement.scrollWidth - innerWidth;
    })</script>"""
    copy = tmp_path / "copy.html"
    copy.write_text(re.sub("<meta http-equiv[^>]*>", "", html).replace("</body>", f"{probe}</body>"), encoding="utf-8")
    shown = opened(copy).stdout
    assert int(re.findall(r'data-images="(\d+)"', shown)[0]) == html.count("<img ") > 30
    assert 'data-broken="0"' in shown
    assert int(re.findall(r'data-overflow="(-?\d+)"', shown)[0]) <= 0
