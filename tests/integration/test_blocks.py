# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Every command and block of the README and the documentation runs as written, offline and in one process.

What differs from a user's run is what only costs time: images are few and small, also inside the networks, trainings
take two steps, no worker processes read, and ImageNet's weights are random ones. How well a model inspects is tested
elsewhere.
"""

from __future__ import annotations

import shutil
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import AnomalibDataModule
from anomalib.engine import engine
from anomalib.models import AnomalibModule, Patchcore
from anomalib.models.components.feature_extractors import timm as feature_extractors
from lightning.pytorch import Trainer
from safetensors.torch import save_file

import anomalib_mkd.models  # noqa: F401  # registers, as the hook does
from anomalib_mkd import Mmrd
from anomalib_mkd.check.command import main as check
from anomalib_mkd.data import Recipe, make_dataset
from anomalib_mkd.data import quickstart as drawn
from anomalib_mkd.deploy.__main__ import main as deploy
from anomalib_mkd.networks import pretrained
from anomalib_mkd.quickstart.__main__ import main as quickstart
from anomalib_mkd.thresholds import Scale
from tests.depth_folders import draw_folder, picture, scan, write_depth
from tests.integration.test_documents import DOCUMENTS, ROOT, calls

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the command line turns on everything that the libraries have to say
]

LANGUAGES = ("bash", "python", "yaml")
NOT_RUN = {
    "git": "fetches this repository",
    ". .venv": "changes the shell",
    "python3 -m venv": "makes an environment",
    "pip": "installs from an index",
    "scripts/test.sh": "runs this test",
    "scripts/quickstart.sh": "makes an environment; the program that it starts has tests of its own",
    "python -m anomalib_mkd compare": "takes the minutes of its budget; test_compare.py runs it",
    "anomalib benchmark": "replaces the handlers of all loggers; test_configs.py runs it without that",
    "python -m benchmark": "trains for hours; test_documents.py reads the commands",
    "python scripts/": "makes files of the repository",
    "Visa": "downloads",
}


def blocks_of(document: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks that can be run, in their order."""
    found, language, lines = [], "", []
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if language in LANGUAGES:
                found.append((language, "\n".join(lines)))
            language, lines = "" if language else line.removeprefix("```") or "text", []
        else:
            lines.append(line)
    return found


RUN = [path for path in DOCUMENTS if blocks_of(path)]

TINY: dict[str, Any] = {"image_size": 64, "train_images": 8, "test_good": 2, "per_defect": 1}
SMALL = (64, 64)
"""Height and width of the networks' images."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the documents name."""
    home = tmp_path_factory.mktemp("workshop")
    parts = make_dataset(home / "drawn", Recipe("metal", **TINY))
    (parts / "manifest.json").unlink()
    for name in (
        "my_parts",
        "new_parts",
        "parts/bottle",
        "parts/screw",
        "datasets/my_parts",
        "datasets/my_parts/bottle",
    ):
        shutil.copytree(parts, home / name, dirs_exist_ok=True)
    for name in ("datasets/my_parts/screw", "datasets/MVTecAD/bottle", "datasets/MVTecAD/screw"):
        shutil.copytree(parts, home / name)
    for name in ("a", "b", "own"):
        shutil.copytree(parts / "train" / "good", home / "datasets" / name / "good")
        shutil.copytree(parts / "test" / "dent", home / "datasets" / name / "bad")
    shutil.copytree(parts / "train" / "good", home / "new_good_images")
    scans = make_dataset(home / "scans", Recipe("metal", **TINY, layout="mvtec3d"))
    shutil.copytree(scans, home / "parts" / "box")
    draw_folder(home / "datasets" / "my_scans" / "part")
    for photo, depth in (("photo.png", "scan.tiff"), ("new/images/000.png", "new/depth/000.png")):
        (home / photo).parent.mkdir(parents=True, exist_ok=True)
        picture(0).save(home / photo)
        write_depth(home / depth, scan(0, bump=True))
    shutil.copy(parts / "test" / "dent" / "000.png", home / "part.png")
    (home / "configs").symlink_to(ROOT / "configs")
    torch.manual_seed(1)
    save_file(timm.create_model("resnet18").state_dict(), home / "resnet18.safetensors")
    return home


@pytest.fixture
def short(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder: few, small and drawn images, two training steps, and weights that nobody downloads."""
    monkeypatch.chdir(workshop)
    create = timm.create_model
    monkeypatch.setattr(drawn, "Recipe", lambda category, *_: Recipe(category, **TINY))
    monkeypatch.setattr(AnomalibDataModule, "num_workers", property(lambda _: 0, lambda *_: None), raising=False)
    for model in (AnomalibModule, Mmrd, Patchcore):
        make = model.configure_pre_processor
        monkeypatch.setattr(model, "configure_pre_processor", staticmethod(lambda *_, make=make, **__: make(SMALL)))

    def short_trainer(**options: Any) -> Trainer:
        return Trainer(**options | {"max_epochs": 1, "limit_train_batches": 2})

    def random_weights(backbone: str) -> str:
        file = workshop / f"{backbone}.safetensors"
        if not file.exists():
            torch.manual_seed(1)  # not 0: weights that another draw has, too, count as missing
            save_file(create(backbone).state_dict(), file)
        return str(file)

    monkeypatch.setattr(engine, "Trainer", short_trainer)
    monkeypatch.setattr(pretrained, "_hub_file", random_weights)
    anomalibs = SimpleNamespace(create_model=lambda *a, **options: create(*a, **options | {"pretrained": False}))
    monkeypatch.setattr(feature_extractors, "timm", anomalibs)


def run(words: list[str]) -> None:
    """Run one command."""
    line = " ".join(words)
    if any(line.startswith(each) or f" {each} " in line for each in NOT_RUN):
        return
    if words[0] == "anomalib":
        if "--model.help" in words:
            with pytest.raises(SystemExit):
                AnomalibCLI(words[1:])
        else:
            AnomalibCLI(words[1:])
    elif words[:3] == ["python", "-m", "anomalib_mkd.quickstart"]:
        assert quickstart(words[3:]) in {0, None}
    elif words[:4] == ["python", "-m", "anomalib_mkd", "check"]:
        assert check(words[4:]) == 0
    elif words[:3] == ["python", "-m", "anomalib_mkd.deploy"]:
        assert deploy(words[3:]) == 0
    else:
        pytest.fail(f"a command that this test does not know: {line}")


def keep(home: Path, results: Path, since: float = 0.0) -> None:
    """Put the last checkpoint and export where documents that begin with one name them."""
    for name in ("model.ckpt", "model.xml", "model.bin", "model.json"):
        times = {path.stat().st_mtime: path for path in results.rglob(name)}
        if times and max(times) > since:
            shutil.copy(times[max(times)], home / name)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("document", RUN, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_run(document: Path, workshop: Path) -> None:
    """README comes first, and leaves a checkpoint and an export for those that go on from one."""
    results, start = workshop / "results", time.time()
    keep(workshop, results / "MixedDistillation" / "Quickstart")
    names: dict[str, Any] = {"model": Mmrd(pre_trained=False)}
    for language, text in blocks_of(document):
        if "DepthInferencer" in text:
            scale = Scale(1.0, 1.0)
            names["model"].post_processor.set_scales(scale, scale)  # only then, it is more than a graph
            names["model"].to_openvino(results / "depth")
            keep(workshop, results / "depth")
        if language == "python":
            exec(compile(text, document.name, "exec"), names)  # noqa: S102
        elif language == "yaml":
            (workshop / "block.yaml").write_text(text, encoding="utf-8")
            run(["anomalib", "train", "--model", "MixedDistillation", "--config", "block.yaml"])
        else:
            for words in filter(None, calls(text)):
                run(words)
        keep(workshop, results, start)
