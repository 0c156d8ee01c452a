# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Builds one datamodule per category from the name of a class and a list of categories, or raises a clear error."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataModule, get_datamodule
from anomalib.data.datamodules.base.video import AnomalibVideoDataModule

#: Where to look for a class by its bare name.
MODULES = ("anomalib.data", "anomalib_mkd.data")


def find_class(datamodule: str | type[AnomalibDataModule]) -> type[AnomalibDataModule]:
    """Find a class by its name or dotted path.

    Raises:
        TypeError: If it is not a datamodule.
    """
    found: Any = datamodule
    if isinstance(datamodule, str):
        path, _, name = datamodule.rpartition(".")
        modules = [import_module(place) for place in ([path] if path else MODULES)]
        found = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
    if not (isinstance(found, type) and issubclass(found, AnomalibDataModule)):
        known = ", ".join(sorted(cls.__name__ for cls in AnomalibDataModule.__subclasses__()))
        msg = f"Expected a datamodule class, got {datamodule!r}. Use a dotted path, or one of: {known}."
        raise TypeError(msg)
    return found


def build_datamodules(
    datamodule: str | type[AnomalibDataModule],
    categories: Sequence[str],
    root: Path | str | None,
    shared: Mapping[str, Any],
) -> list[AnomalibDataModule]:
    """Build one datamodule per category.

    Args:
        datamodule: Their class, its name or its dotted path. If it has no ``category``, each category is a separate
            folder under the root, and becomes the datamodule's ``name``.
        categories: The categories.
        root: Root of the class; None for its own default.
        shared: Further arguments, the same for all.

    Raises:
        TypeError: If the class is not a datamodule.
        ValueError: If the class does not accept the arguments, or does not know a category.
        FileNotFoundError: If a folder is missing.
    """
    cls = find_class(datamodule)
    parameters = inspect.signature(cls).parameters
    if not {"category", "name"} & set(parameters):
        msg = (
            f"Expected a class with the argument category or name, got {cls.__name__}. List whole datamodules instead, "
            "as datamodules."
        )
        raise ValueError(msg)

    def where(category: str) -> dict[str, Any]:
        if "category" in parameters:
            return {"category": category} if root is None else {"category": category, "root": root}
        return {"name": category, "root": Path(root or "") / category}  # anomalib's Folder

    given = {*shared, *where("")}
    needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    if not needed <= given <= set(parameters):
        msg = (
            f"Expected arguments of {cls.__name__}, got none for {sorted(needed - given)} and unknown ones "
            f"{sorted(given - set(parameters))}. Set root and options that it accepts ({', '.join(parameters)}), or "
            "build the datamodules yourself."
        )
        raise ValueError(msg)
    make: Any = cls
    built = [make(**where(category), **shared) for category in categories]
    for each, category in zip(built, categories, strict=True):
        if "category" in parameters:
            _check_known(each, category)
        else:
            _check_folder(Path(each.root))
    return built


def _check_known(datamodule: Any, category: str) -> None:
    """Reject a category that neither data set nor disk has; anomalib would download the whole set to look for it."""
    cls = type(datamodule)
    known = getattr(sys.modules.get(cls.__module__.replace(".datamodules.", ".datasets.")), "CATEGORIES", ())
    if known and category not in known and not Path(datamodule.root, category).is_dir():
        msg = (
            f"Expected categories of {cls.__name__}, got {category!r}, which is not a folder of {datamodule.root} "
            f"either. Choose from: {', '.join(known)}."
        )
        raise ValueError(msg)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in folder.parent.glob("*/"))) or "none"
        msg = f"Expected the folder {folder}, got none. Choose categories from: {there}."
        raise FileNotFoundError(msg)


def name_datamodules(names: Sequence[str], datamodules: Sequence[Any]) -> dict[str, AnomalibDataModule]:
    """Assign each datamodule its category's name, which also names folders and metrics.

    Args:
        names: One per datamodule, or none for their own. Only the last part of a path is used.
        datamodules: Datamodules, or their configurations as passed on by ``anomalib benchmark``.

    Raises:
        TypeError: If one of them is not a datamodule of images.
        ValueError: If there is none, or not exactly one name for each.
    """
    built = [get_datamodule(dict(each)) if isinstance(each, Mapping) else each for each in datamodules]
    for each in built:
        if not isinstance(each, AnomalibDataModule) or isinstance(each, AnomalibVideoDataModule):
            msg = f"Expected datamodules of images, got {type(each).__name__}. Pass objects or their configurations."
            raise TypeError(msg)
    names = [Path(name).name for name in names or [str(each.category or each.name) for each in built]]
    if not built or len(built) != len(names):
        msg = (
            f"Expected a name for each category and at least one, got {len(names)} names and {len(built)} datamodules. "
            "List the categories, for example categories=['bottle', 'screw']."
        )
        raise ValueError(msg)
    unfit = [name for name, count in Counter(names).items() if count > 1 or name in {"", ".."}]
    if unfit:
        msg = (
            f"Expected distinct names of categories, got {', '.join(map(repr, unfit))} in {names}. List each once; "
            "name datamodules apart by categories, such as [part_a, part_b]."
        )
        raise ValueError(msg)
    return dict(zip(names, built, strict=True))
