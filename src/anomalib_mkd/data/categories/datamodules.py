# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""From the name of a class and a list of categories to one datamodule per category, or to a clear error."""

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

#: Where a class is looked for by its bare name.
MODULES = ("anomalib.data", "anomalib_mkd.data")


def find_class(datamodule: str | type[AnomalibDataModule]) -> type[AnomalibDataModule]:
    """Find a class by its name or dotted path.

    Raises:
        TypeError: If that is no datamodule.
    """
    found: Any = datamodule
    if isinstance(datamodule, str):
        path, _, name = datamodule.rpartition(".")
        modules = [import_module(place) for place in ([path] if path else MODULES)]
        found = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
    if not (isinstance(found, type) and issubclass(found, AnomalibDataModule)):
        known = ", ".join(sorted(cls.__name__ for cls in AnomalibDataModule.__subclasses__()))
        msg = f"Expected a class of datamodules, got {datamodule!r}. Known by name: {known}."
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
        datamodule: Their class, by name, dotted path or as it is. If it has no ``category``, a category is a folder of
            its own under the root, and gives the datamodule its ``name``.
        categories: The categories.
        root: Root of the class; None for its own default.
        shared: Further arguments, the same for all.

    Raises:
        TypeError: If the class is no datamodule.
        ValueError: If the class does not take the arguments, or knows no such category.
        FileNotFoundError: If a folder is missing.
    """
    cls = find_class(datamodule)
    parameters = inspect.signature(cls).parameters

    def where(category: str) -> dict[str, Any]:
        if "category" in parameters:
            return {"category": category} if root is None else {"category": category, "root": root}
        return {"name": category, "root": Path(root or "") / category}  # anomalib's Folder

    given = {*shared, *where("")}
    needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    if not needed <= given <= set(parameters):
        msg = (
            f"Expected arguments of {cls.__name__}, got none for {sorted(needed - given)} and unknown ones "
            f"{sorted(given - set(parameters))}. Give root and options that it takes ({', '.join(parameters)}), or "
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
    """Refuse what neither data set nor disk knows; anomalib would download the whole set to look for it."""
    cls = type(datamodule)
    known = getattr(sys.modules.get(cls.__module__.replace(".datamodules.", ".datasets.")), "CATEGORIES", ())
    if known and category not in known and not Path(datamodule.root, category).is_dir():
        msg = (
            f"Expected categories of {cls.__name__}, got {category!r}, which is no folder of {datamodule.root} either. "
            f"Known: {', '.join(known)}."
        )
        raise ValueError(msg)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in folder.parent.glob("*/"))) or "none"
        msg = f"Expected the folder {folder}, got none. Name categories out of those there: {there}."
        raise FileNotFoundError(msg)


def name_datamodules(names: Sequence[str], datamodules: Sequence[Any]) -> dict[str, AnomalibDataModule]:
    """Give every datamodule its category's name, which is also a folder's and part of a metric's.

    Args:
        names: One per datamodule, or none for their own. Of a path, the last part counts.
        datamodules: Datamodules, or configurations of them as ``anomalib benchmark`` hands them on.

    Raises:
        TypeError: If something else than a datamodule of images is among them.
        ValueError: If there is none, or not exactly one name for each.
    """
    built = [get_datamodule(dict(each)) if isinstance(each, Mapping) else each for each in datamodules]
    for each in built:
        if not isinstance(each, AnomalibDataModule) or isinstance(each, AnomalibVideoDataModule):
            msg = f"Expected datamodules of images, got {type(each).__name__}. Give objects or their configurations."
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
        msg = f"Expected different names of categories, got {names}. Name {', '.join(map(repr, unfit))} otherwise."
        raise ValueError(msg)
    return dict(zip(names, built, strict=True))
