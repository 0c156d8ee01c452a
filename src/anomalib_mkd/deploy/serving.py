# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Folders and configuration by which OpenVINO Model Server serves an export."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_mkd.deploy.graph import EXACT, load, set_thresholds
from anomalib_mkd.deploy.metadata import SUFFIXES, read, write
from anomalib_mkd.files import whole, whole_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger(__name__)

CONFIG = "config.json"


def lay_out(path: Path | str, folder: Path | str, name: str | None = None, category: str | None = None) -> Path:
    """Add an export to the folder of a server, as the next version of its name.

    A running server loads a new version by itself, and keeps the old one until that is done. Thresholds are in the
    graph and are served; region and smallest area are not.

    Args:
        path: The ``.xml`` file.
        folder: The server's folder: ``<name>/<version>/`` and ``config.json`` with all names.
        name: Name of the model in requests; if ``None``, the category, or else its class.
        category: Whose thresholds are served, of a model that learnt several; if ``None``, those common to all, with a
            warning.

    Returns:
        The configuration, for the server's ``--config_path``.

    Raises:
        ValueError: If the export is damaged, has a region or a smallest area, the configuration is not ours, the
            category is unknown, or the name is a path or that of a file.
        OSError: If the folder is not writable or the disk is full; nothing is left there.
    """
    path, folder = Path(path), Path(folder)
    metadata = read(path)
    if metadata.region is not None or metadata.smallest_area:
        msg = f"Expected a model without region and smallest area, got {path} with one. A server applies neither."
        raise ValueError(msg)
    own_thresholds = None if category is None else metadata.of_category(category)
    name = name or category or metadata.model
    if Path(name).name != name or name == "..":
        msg = f"Expected a name of one folder, got {name!r}. Leave out separators."
        raise ValueError(msg)
    own, config = folder / name, folder / CONFIG
    if name.lower() == CONFIG or own.is_file():  # case does not count everywhere
        msg = f"Expected a name that no file has there, got {name!r}. Choose another."
        raise ValueError(msg)
    entries = _others(config, name)
    own.mkdir(parents=True, exist_ok=True)
    version = 1 + max((int(each.name) for each in own.iterdir() if each.name.isdecimal()), default=0)
    try:
        with whole_folder(own / str(version)) as unfinished:
            if own_thresholds is None:
                for suffix in SUFFIXES:
                    shutil.copy2(path.with_suffix(suffix), unfinished)
            else:
                model, _ = load(path)
                set_thresholds(model, own_thresholds)
                write(unfinished / path.name, model, own_thresholds)
    except OSError as error:
        msg = f"Expected to write a version into {own}, got {error}. Free space, or choose another folder."
        raise OSError(msg) from error
    finally:
        with suppress(OSError):  # of earlier versions
            own.rmdir()
    entries.append({"config": {"name": name, "base_path": str(own.resolve()), "plugin_config": EXACT}})
    with whole(config) as file:
        file.write_text(json.dumps({"model_config_list": entries}, indent=2) + "\n", encoding="utf-8")
    if category is None and metadata.categories:
        logger.warning("%s", metadata.without_category())
    return config


def _others(config: Path, name: str) -> list[Any]:
    """Return the entries of the other models."""
    if not config.exists():
        return []
    try:
        entries: Iterable[Any] = json.loads(config.read_text(encoding="utf-8"))["model_config_list"]
        return [entry for entry in entries if entry["config"]["name"] != name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"Expected the configuration of a model server in {config}, got {type(error).__name__}: {error}. Move it."
        raise ValueError(msg) from error
