# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The cache: what it keeps, in which precision, how much of it, and of which data sets."""

from collections import Counter
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch.callbacks import LambdaCallback
from torchvision.transforms.v2 import Resize

from anomalib_mkd import MixedDistillation, Mkd
from anomalib_mkd.data import MultiCategory, Parts
from anomalib_mkd.data.parts import PartsDataset
from anomalib_mkd.training import caching
from anomalib_mkd.training.caching import FeatureCache, TrainingCache, rounded
from anomalib_mkd.types import Pyramid
from tests.category_folders import draw_category
from tests.life import NOISE, make_data, make_engine

pytestmark = [pytest.mark.filterwarnings(text) for text in NOISE]


def pyramid(count: int, seed: int = 0) -> Pyramid:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.rand(count, 2, 4, 4, generator=generator), "b": torch.rand(count, 4, 2, 2, generator=generator)}


IMAGE_BYTES = 2 * (2 * 16 + 4 * 4)  # half precision


def test_features_come_back_as_floats_within_half_precision_in_the_order_asked_for() -> None:
    cache, features = FeatureCache(10_000), pyramid(3)
    cache.put(["0", "1", "2"], features)
    back = cache.get(["2", "0"])
    assert back is not None
    assert list(back) == ["a", "b"]
    for name, level in back.items():
        assert level.dtype == torch.float32
        assert torch.equal(level, features[name][[2, 0]].half().float())
        torch.testing.assert_close(level, features[name][[2, 0]], rtol=2**-11, atol=0)


def test_a_batch_with_one_unknown_image_is_not_there() -> None:
    cache = FeatureCache(10_000)
    cache.put(["0"], pyramid(1))
    assert cache.get(["0", "1"]) is None


def test_values_beyond_half_precision_are_kept_as_they_are() -> None:
    cache, features = FeatureCache(10_000), pyramid(2)
    features["a"][1, 0, 0, 0] = 1e6
    cache.put(["0", "1"], features)
    back = cache.get(["1"])
    assert back is not None
    assert torch.equal(back["a"], features["a"][1:])


def test_a_full_cache_keeps_what_it_has_and_takes_no_more() -> None:
    cache = FeatureCache(2 * IMAGE_BYTES + 1)
    cache.put(["0", "1", "2"], pyramid(3))
    assert cache.used_bytes == 2 * IMAGE_BYTES
    assert cache.get(["0", "1"]) is not None
    assert cache.get(["2"]) is None


def test_a_full_cache_copies_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    copied, compact = [], caching._compact

    def counted(features: torch.Tensor) -> torch.Tensor:
        copied.append(features)
        return compact(features)

    monkeypatch.setattr(caching, "_compact", counted)
    cache = FeatureCache(2 * IMAGE_BYTES + 1)
    cache.put(["0", "1", "2", "3"], pyramid(4))
    assert len(copied) == 3 * 2  # up to the first image that had no room, of two levels each
    cache.put(["4", "2"], pyramid(2))
    assert len(copied) == 3 * 2
    assert cache.get(["0", "1"]) is not None


def test_rounded_features_are_the_same_whether_they_were_kept_or_not() -> None:
    features = pyramid(2)
    features["a"][1, 0, 0, 0] = 1e6
    computed = rounded(features)
    for cache in (FeatureCache(10_000), FeatureCache(0)):
        for _ in range(2):
            found = cache.pyramid(["0", "1"], torch.device("cpu"), lambda: computed)
            assert all(torch.equal(level, computed[name]) for name, level in found.items())


def test_an_image_is_kept_once_and_the_batch_is_not_held() -> None:
    cache, features = FeatureCache(10_000), pyramid(1)
    cache.put(["0"], features)
    first = features["a"].clone()
    features["a"].zero_()
    cache.put(["0"], pyramid(1, seed=1))
    assert cache.used_bytes == IMAGE_BYTES
    back = cache.get(["0"])
    assert back is not None
    assert torch.equal(back["a"], first.half().float())


def test_half_precision_is_read_under_autocast() -> None:
    cache = FeatureCache(10_000)
    cache.put(["0", "1"], pyramid(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        back = cache.get(["0", "1"])
    assert back is not None
    assert all(torch.equal(level, rounded(pyramid(2))[name]) for name, level in back.items())


def test_the_processes_of_a_computer_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "why_pictures_change", lambda _: None)
    for processes in (1, 4):
        trainer = SimpleNamespace(train_dataloader=SimpleNamespace(num_workers=1), num_devices=processes)
        features = TrainingCache(SimpleNamespace(trainer=trainer), 1.0).features
        assert features is not None
        assert features.max_bytes == 2**29 // processes


def is_cached(folder: Path, data: Any) -> bool:
    """Train one step, and return whether features were kept."""
    kept: list[bool] = []
    watching = LambdaCallback(on_train_batch_start=lambda _, module, *__: kept.append(bool(module._cache.features)))
    pre_processor = PreProcessor(Resize((64, 64), antialias=True))
    model = MixedDistillation(weights="quickstart", visualizer=False, pre_processor=pre_processor)
    make_engine(folder, max_steps=1, limit_val_batches=0, callbacks=[watching]).fit(model, datamodule=data)
    return kept[0]


def halves(kind: Any) -> Any:
    """A data set that cuts each image in two: both have its path."""

    class Halves(kind):
        def __len__(self) -> int:
            return 2 * super().__len__()

        def __getitem__(self, index: int) -> Any:
            item = super().__getitem__(index // 2)
            item.image = item.image.chunk(2, dim=-1)[index % 2]
            item.gt_mask = None
            return item

    return Halves


def listed(kind: Any) -> Any:
    """A data set that reads whole batches by itself."""

    class Listed(kind):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            return [self[index] for index in indices]

    return Listed


def collated(collate: Any, items: list[Any]) -> Any:
    """What a user's own function makes of items."""
    return collate(items)


@pytest.mark.parametrize("own", [halves, listed, "collate_fn", None], ids=["crops", "batches", "collate_fn", "ours"])
def test_a_data_set_that_may_show_other_pictures_is_not_cached(tmp_path: Path, own: Any) -> None:
    data: Any = make_data(tmp_path)
    data.prepare_data()
    data.setup()
    data.setup = lambda **_: None  # by the trainer, again
    if own == "collate_fn":
        data.external_collate_fn = partial(collated, data.train_data.collate_fn)
    elif own:
        data.train_data.__class__ = own(type(data.train_data))
    assert is_cached(tmp_path, data) is (own is None)


@pytest.mark.parametrize("own", [True, False])
def test_categories_are_cached_unless_one_may_show_other_pictures(tmp_path: Path, *, own: bool) -> None:
    options = {"image_size": 64, "train_images": 6, "test_good": 2, "per_defect": 1}
    data: Any = MultiCategory("Quickstart", ["metal", "washer"], tmp_path, options=options, num_workers=0)
    data.prepare_data()
    data.setup()
    data.setup = lambda **_: None
    for part in data.train_data.parts.values() if own else ():
        part.__class__ = halves(type(part))
    assert is_cached(tmp_path, data) is not own


def test_features_read_before_the_first_step_have_the_precision_of_a_step(tmp_path: Path) -> None:
    students = []
    for gigabytes in (0.0, 1.0):
        torch.manual_seed(0)
        pre_processor = PreProcessor(Resize((64, 64), antialias=True))
        model = Mkd(weights="quickstart", visualizer=False, pre_processor=pre_processor, cache_gigabytes=gigabytes)
        engine = make_engine(tmp_path / str(gigabytes), max_epochs=1, limit_val_batches=0, precision="bf16-mixed")
        engine.fit(model, datamodule=make_data(tmp_path))
        students.append(list(model.model.learned_parameters()))
    assert all(map(torch.equal, *students))


def test_a_cached_image_is_read_once_for_the_training_and_all_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    read = PartsDataset.__getitem__

    @wraps(read)  # so that it counts as ours
    def counted(dataset: PartsDataset, index: int) -> Any:
        reads[str(dataset.samples.image_path.iloc[index])] += 1
        return read(dataset, index)

    monkeypatch.setattr(PartsDataset, "__getitem__", counted)
    data = Parts(draw_category(tmp_path / "bolt", train=10))
    pre_processor = PreProcessor(Resize((64, 64), antialias=True))
    model = MixedDistillation(weights="quickstart", visualizer=False, pre_processor=pre_processor)
    make_engine(tmp_path, max_epochs=1).fit(model, datamodule=data)
    learnt = Counter({str(path): reads[str(path)] for path in data.train_data.samples.image_path})
    assert sorted(learnt.values()) == [1] * 6 + [3] * 2  # two are compared with themselves, before they are kept
