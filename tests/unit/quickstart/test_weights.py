# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which teacher a first run takes, and that the sentence about it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomalib_mkd.networks.backbone import RESNET18, VGG16
from anomalib_mkd.quickstart import weights
from anomalib_mkd.quickstart.weights import choose_weights

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_asked_for(tmp_path: Path) -> None:
    assert choose_weights("quickstart", RESNET18).weights == "quickstart"
    assert choose_weights("imagenet", RESNET18).weights is None
    file = tmp_path / "own.safetensors"
    file.touch()
    choice = choose_weights(str(file), RESNET18)
    assert choice == (str(file), f"Teacher: {RESNET18} from {file}.")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"^Expected auto, imagenet, quickstart or a file as --weights, got 'x'"):
        choose_weights("x", RESNET18)


@pytest.mark.parametrize(
    ("backbone", "cached", "reason", "weight", "word"),
    [
        (RESNET18, "file", None, None, "found in the Hugging Face cache"),
        (VGG16, "file", None, None, "found in the Hugging Face cache"),
        (RESNET18, None, None, None, "a download of 47 MB"),
        (RESNET18, None, "no answer within 5 s", "quickstart", "the hub is away: no answer within 5 s"),
        (VGG16, None, None, "quickstart", "is a large download"),
    ],
)
def test_auto(
    backbone: str,
    cached: str | None,
    reason: str | None,
    weight: str | None,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "cached_weights", lambda _: cached)
    monkeypatch.setattr(weights, "why_unreachable", lambda _name, _seconds: reason)
    monkeypatch.setattr(weights, "why_unwritable", lambda: None)
    choice = choose_weights("auto", backbone)
    assert choice.weights == weight
    assert word in choice.sentence
    assert choice.sentence.count("\n") == 0


def test_auto_waits_for_a_slow_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "cached_weights", lambda _: None)
    monkeypatch.setattr(weights, "why_unreachable", lambda _, seconds: "no answer" if seconds < 5 else None)
    monkeypatch.setattr(weights, "why_unwritable", lambda: None)
    assert choose_weights("auto", RESNET18).weights is None


def test_auto_without_a_cache_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.touch()  # unlike a folder without permission, it stops root, too
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(weights, "cached_weights", lambda _: None)
    monkeypatch.setattr(weights, "why_unreachable", lambda *_: None)
    choice = choose_weights("auto", RESNET18)
    assert choice.weights == "quickstart"
    assert (
        f"is not cached, and its cache cannot be written: [Errno 20] Not a directory: '{home}/hub'." in choice.sentence
    )
    assert choice.sentence.endswith(" Set HF_HOME to a writable folder for it.")
