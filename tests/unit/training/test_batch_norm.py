# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Statistics estimated anew are plain averages over the batches seen."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn

from anomalib_mkd.training.batch_norm import estimating_batch_norm


def test_statistics_are_the_averages_of_the_batches_whatever_was_before() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.running_var, 50.0)  # type: ignore[arg-type]
    batches = [torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    with estimating_batch_norm(network):
        for images in batches:
            network(images)
    with torch.no_grad():
        features = [network[0](images) for images in batches]
    means = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)
    variances = torch.stack([f.transpose(0, 1).flatten(1).var(1) for f in features]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1
    assert not norm.training


def test_a_frozen_network_keeps_its_statistics() -> None:
    frozen, trained = nn.BatchNorm2d(2).requires_grad_(requires_grad=False), nn.BatchNorm2d(2)
    network = nn.Sequential(frozen, trained).eval()
    with estimating_batch_norm(network):
        network(torch.randn(2, 2, 4, 4))
    assert torch.equal(frozen.running_mean, torch.zeros(2))  # type: ignore[arg-type]
    assert not torch.equal(trained.running_mean, torch.zeros(2))  # type: ignore[arg-type]


def test_an_error_leaves_the_modes_as_they_were() -> None:
    norm = nn.BatchNorm2d(2).train()
    with pytest.raises(ValueError, match="expected 4D input"), estimating_batch_norm(norm):
        norm(torch.randn(2, 2))
    assert norm.momentum == 0.1
    assert norm.training


@pytest.mark.parametrize("reverted", [False, True])
def test_norms_of_several_processes_are_estimated_too(reverted: bool) -> None:
    network: nn.Module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    plugin = TorchSyncBatchNorm()
    network = plugin.apply(network)
    network = (plugin.revert(network) if reverted else network).eval()
    with estimating_batch_norm(network):
        assert network.get_submodule("1").training
