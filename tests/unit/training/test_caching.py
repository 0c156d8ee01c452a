# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The cache: what it keeps, in which precision, and how much of it."""

import torch

from anomalib_mkd.training.caching import FeatureCache, rounded
from anomalib_mkd.types import Pyramid


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
