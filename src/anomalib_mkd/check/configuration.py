# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The configuration that trains on a folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from anomalib_mkd.check.layout import find_layout
from anomalib_mkd.check.words import shown
from anomalib_mkd.files import whole

if TYPE_CHECKING:
    from pathlib import Path

    from anomalib_mkd.check.layout import Layout, Role

BATCH = 8  # with which the figures in the documents were measured


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Puts in quotes what jsonargparse, but not PyYAML, reads as a number, such as a folder's name ``12E5``."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$"), [*"-+0123456789"]
)


def configuration(layout: Layout) -> str | None:
    """Write a file for ``anomalib train --config``; None if there are no images of good parts.

    A folder in MVTec AD's layout is read by :class:`anomalib_mkd.data.Parts`, one with depth by
    :class:`anomalib_mkd.data.DepthFolder`, any other by anomalib's ``Folder`` with its folders named. Several together
    are read by :class:`anomalib_mkd.data.MultiCategory`.
    """
    init: dict[str, Any]
    if layout.kind == "parts":
        path, init = "anomalib_mkd.data.Parts", {"root": str(layout.root)}
    elif layout.kind == "depth":
        home = layout.root.resolve()  # the name of ".." is not that of a folder
        path, init = (
            "anomalib_mkd.data.DepthFolder",
            {"root": str(home.parent), "category": home.name, "train_batch_size": BATCH},
        )
    elif layout.kind == "folders":
        path, init = "anomalib.data.Folder", _folders(layout)
    elif layout.kind == "categories":
        depth = find_layout(layout.root / layout.categories[0]).kind == "depth"
        path, init = (
            "anomalib_mkd.data.MultiCategory",
            {
                "datamodule": "DepthFolder" if depth else "Parts",
                "root": str(layout.root),
                "categories": [*layout.categories],
            },
        )
    else:
        return None
    data = {"class_path": path, "init_args": init}
    text: str = yaml.dump({"data": data}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _folders(layout: Layout) -> dict[str, Any]:
    roles: dict[str, Role] = {"normal_dir": "train", "normal_test_dir": "test", "abnormal_dir": "bad"}
    if masks_in_order(layout):
        roles["mask_dir"] = "mask"
    folders = {name: [group.name for group in layout.of(role)] for name, role in roles.items()}
    return {
        "name": layout.root.resolve().name,
        "root": str(layout.root),
        **{name: found if len(found) > 1 else found[0] for name, found in folders.items() if found},
        "train_batch_size": BATCH,
        "num_workers": 0,  # anomalib's eight are slower on few cores
        "val_split_mode": "from_train",  # thresholds from good images; anomalib's own default takes the test set
        "val_split_ratio": 0.2,
        "seed": 0,  # the same split in every run
    }


def masks_in_order(layout: Layout) -> bool:
    """Return whether anomalib's ``Folder``, which pairs images and masks by their order, pairs them by name."""
    images, masks = sorted(layout.images("bad")), sorted(layout.images("mask"))
    pairs = layout.mask_of
    return len(images) == len(masks) > 0 and all(
        pairs[image] == [mask] and image.stem in mask.stem for image, mask in zip(images, masks, strict=True)
    )


def require_folder(file: Path) -> None:
    """Refuse to write into a folder that is not there.

    Raises:
        FileNotFoundError: If the file's folder does not exist.
    """
    if not file.parent.is_dir():
        msg = f"Expected a folder for --write-config, got '{shown(file.parent)}', which is not there. Make it first."
        raise FileNotFoundError(msg)


def write_configuration(text: str, file: Path) -> None:
    """Write a configuration into a new file, whole or not at all; one of the same content stays.

    Raises:
        FileExistsError: If the file exists, with another content.
        FileNotFoundError: If its folder does not exist.
    """
    require_folder(file)
    if file.exists():
        if file.is_file() and file.read_bytes() == text.encode():
            return
        msg = f"Expected a new file for --write-config, got '{shown(file)}', which exists. Choose another name."
        raise FileExistsError(msg)
    with whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
