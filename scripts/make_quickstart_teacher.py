# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Distil the quick-start teacher: a small plain VGG that sees what ImageNet's ResNet-18 sees, as far as it can.

Pool2, pool3 and pool4 learn ResNet-18's layer1, layer2 and layer3 through 1x1 heads, pool5 learns layer3 averaged over
2x2. The heads are dropped, batch norm is folded into the convolutions, and every tap is scaled to a mean square of 1
(ReLU and max-pooling let a factor through). What remains is a chain of Conv, ReLU and MaxPool that takes RGB in 0..1.

Run from the repository root; about 30 minutes on 2 cores, resumed from the last checkpoint when interrupted::

    python scripts/make_quickstart_teacher.py --shared ../shared
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from teacher_images import render
from torch import Tensor, nn
from torch.nn import functional

from anomalib_mkd.files import whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("teacher")

WIDTHS = ((16, 16), (32, 64), (64, 128), (128, 128, 192), (192, 192))
TAPS = ("pool2", "pool3", "pool4", "pool5")
TARGETS = (64, 128, 256, 256)  # channels of layer1, layer2, layer3, averaged layer3
PICTURE = 160  # side of a stored image, pixels
SMALL, FULL = 96, 128  # training crops: cheap ones first, the size of use for the last part
BATCH = 32


class Student(nn.Module):
    """The chain with batch norm, and a 1x1 head per tap."""

    def __init__(self) -> None:
        super().__init__()
        blocks, channels = [], 3
        for widths in WIDTHS:
            layers: list[nn.Module] = []
            for width in widths:
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.blocks = nn.ModuleList(blocks)
        self.heads = nn.ModuleList(
            nn.Conv2d(widths[-1], target, 1) for widths, target in zip(WIDTHS[1:], TARGETS, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Guess the target's levels, each ``(N, C_l, H_l, W_l)``."""
        return [head(tap) for head, tap in zip(self.heads, taps(self.blocks, images), strict=True)]


def taps(blocks: nn.ModuleList, images: Tensor) -> list[Tensor]:
    """Outputs of the second to the fifth block."""
    found = []
    for block in blocks:
        images = block(images)
        found.append(images)
    return found[1:]


class Target(nn.Module):
    """ResNet-18's layers 1 to 3 with every channel brought to mean 0 and variance 1."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.net = timm.create_model(
            "resnet18.tv_in1k",
            pretrained=True,
            features_only=True,
            out_indices=(1, 2, 3),
            pretrained_cfg_overlay={"file": str(weights)},
        )
        self.register_buffer("image_mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.stats: list[tuple[Tensor, Tensor]] = []

    def raw(self, images: Tensor) -> list[Tensor]:
        """The four levels as they come."""
        levels = self.net((images - self.image_mean) / self.image_std)
        return [*levels, functional.avg_pool2d(levels[-1], 2)]

    def measure(self, images: Tensor) -> None:
        """Take mean and standard deviation of every channel from these images."""
        self.stats = []
        for level in self.raw(images):
            self.stats.append((level.mean((0, 2, 3), keepdim=True), level.std((0, 2, 3), keepdim=True) + 1e-3))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The four levels, standardised."""
        return [(level - mean) / std for level, (mean, std) in zip(self.raw(images), self.stats, strict=True)]


def _render(task: tuple[int, int, str | None]) -> NDArray[np.uint8]:
    seed, index, kind = task
    return render(seed, index, PICTURE, kind)


def pool(folder: Path, name: str, tasks: list[tuple[int, int, str | None]]) -> NDArray[np.uint8]:
    """Render images with all cores, or read them when an earlier run did, ``(N, H, W, 3)``."""
    path = folder / f"{name}_{tasks[0][0]}_{len(tasks)}.npy"
    if not path.exists():
        start = time.time()
        with get_context("fork").Pool(os.cpu_count()) as workers:
            pictures = np.stack(list(workers.imap(_render, tasks, chunksize=16)))
        with whole(path) as unfinished:
            np.save(unfinished, pictures)
        logger.info("Rendered %d images for %s in %.0f s", len(tasks), name, time.time() - start)
    return np.load(path, mmap_mode="r")


def to_images(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 ``(N, H, W, 3)`` to float ``(N, 3, H, W)`` in 0..1."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    return tensor.to(torch.float32, memory_format=torch.channels_last) / 255


def batch(pictures: NDArray[np.uint8], seed: int, step: int, size: int) -> Tensor:
    """Batch number ``step``: random crops, mirrored and re-exposed, the same whenever it is asked for."""
    rng = np.random.default_rng([seed, step])
    epoch, place = divmod(step * BATCH, len(pictures) - BATCH)
    order = np.random.default_rng([seed, 1 << 20, epoch]).permutation(len(pictures))
    crops = np.empty((BATCH, size, size, 3), np.uint8)
    for slot, index in enumerate(order[place : place + BATCH]):
        top, left = rng.integers(0, PICTURE - size + 1, 2)
        crop = pictures[index, top : top + size, left : left + size]
        crops[slot] = crop[:, ::-1] if rng.random() < 0.5 else crop
    gain = torch.from_numpy(rng.uniform(0.8, 1.2, (BATCH, 1, 1, 1)).astype(np.float32))
    return (to_images(crops) * gain).clamp_(0, 1)


def fidelity(guess: list[Tensor], target: list[Tensor], stats: list[tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
    """Explained variance and mean cosine (of raw features, per position) for each level."""
    result: dict[str, list[float]] = {"explained_variance": [], "cosine": []}
    for ours, theirs, (mean, std) in zip(guess, target, stats, strict=True):
        rest, total = (ours - theirs).square().sum(), (theirs - theirs.mean((0, 2, 3), keepdim=True)).square().sum()
        result["explained_variance"].append(round(float(1 - rest / total), 4))
        cosine = functional.cosine_similarity(ours * std + mean, theirs * std + mean, dim=1).mean()
        result["cosine"].append(round(float(cosine), 4))
    return result


def fold(student: Student, pictures: NDArray[np.uint8]) -> tuple[nn.Sequential, list[Tensor]]:
    """Fold batch norm into the convolutions and scale the taps.

    Returns the chain and, for each tap, the factors ``(C,)`` its channels were multiplied by.
    """
    layers: list[nn.Module] = []
    for block in student.blocks:
        for layer in block:
            if isinstance(layer, nn.Conv2d):
                conv = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
                conv.weight.data = layer.weight.data.clone()
                layers.append(conv)
            elif isinstance(layer, nn.BatchNorm2d):
                factor = layer.weight.data / (layer.running_var + layer.eps).sqrt()
                conv.weight.data *= factor.view(-1, 1, 1, 1)
                conv.bias.data = layer.bias.data - layer.running_mean * factor
            else:
                layers.append(type(layer)(2) if isinstance(layer, nn.MaxPool2d) else nn.ReLU())
    chain = nn.Sequential(*layers).eval()
    images = torch.cat([batch(pictures, 7, step, FULL) for step in range(4)])
    convs = [index for index, layer in enumerate(chain) if isinstance(layer, nn.Conv2d)]
    factors = []
    for end in [index for index, layer in enumerate(chain) if isinstance(layer, nn.MaxPool2d)][1:]:
        square = chain[: end + 1](images).square().mean((0, 2, 3))
        size = square.sqrt().clamp(square.mean().sqrt() / 4, square.mean().sqrt() * 4)
        factor = 1 / size / (square / size**2).mean().sqrt()
        last = chain[max(index for index in convs if index < end)]
        last.weight.data *= factor.view(-1, 1, 1, 1)
        last.bias.data *= factor
        following = [index for index in convs if index > end]
        if following:
            chain[following[0]].weight.data /= factor.view(1, -1, 1, 1)
        factors.append(factor)
    return chain, factors


def train(args: argparse.Namespace, target: Target, pictures: NDArray[np.uint8]) -> Student:
    """Train for ``args.steps`` steps, going on from the last checkpoint of the same settings."""
    torch.manual_seed(args.seed)
    student = Student().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=args.steps + 1, pct_start=0.1)
    path, settings, start = args.work / "checkpoint.pt", [args.seed, args.steps, len(pictures)], 0
    if path.exists():
        kept = torch.load(path, weights_only=True)
        if kept["settings"] == settings:
            student.load_state_dict(kept["student"])
            optimizer.load_state_dict(kept["optimizer"])
            schedule.load_state_dict(kept["schedule"])
            start = kept["step"]
            logger.info("Going on from step %d", start)
    began, running = time.time(), None
    for step in range(start, args.steps):
        images = batch(pictures, args.seed, step, SMALL if step < 0.85 * args.steps else FULL)
        with torch.no_grad():
            wanted = target(images)
        guess = student(images)
        squares = torch.stack([functional.mse_loss(ours, theirs) for ours, theirs in zip(guess, wanted, strict=True)])
        turns = torch.stack(
            [1 - functional.cosine_similarity(o, t, dim=1).mean() for o, t in zip(guess, wanted, strict=True)]
        )
        loss = squares.sum() + turns.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        running = squares.detach() if running is None else 0.98 * running + 0.02 * squares.detach()
        if (step + 1) % 20 == 0:
            left = (time.time() - began) / (step + 1 - start) * (args.steps - step - 1)
            logger.info("step %d, squares %s, %.0f s left", step + 1, [round(v, 3) for v in running.tolist()], left)
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            state = {"settings": settings, "step": step + 1, "student": student.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            with whole(path) as unfinished:
                torch.save(state, unfinished)
    return student


@torch.no_grad()
def finish(args: argparse.Namespace, student: Student, target: Target, data: dict[str, NDArray[np.uint8]]) -> None:
    """Re-estimate batch norm at the size of use, fold, round to half precision, measure, write."""
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over all batches
    student.train()
    for step in range(40):
        student(batch(data["train"], 11, step, FULL))
    student.eval()
    chain, factors = fold(student, data["train"])
    chain = chain.half().float().to(memory_format=torch.channels_last)
    for head, factor in zip(student.heads, factors, strict=True):
        head.weight.data /= factor.view(1, -1, 1, 1)
    ends = [index for index, layer in enumerate(chain) if isinstance(layer, nn.MaxPool2d)][1:]
    report: dict[str, object] = {}
    for name in ("new pictures", "unseen photographs"):
        parts, targets = [], []
        for pictures in np.array_split(data[name][:, 16:-16, 16:-16], 8):
            images = to_images(pictures)
            parts.append([(images := layer(images)) for layer in chain])
            targets.append(target(to_images(pictures)))
        levels = [torch.cat([part[end] for part in parts]) for end in ends]
        wanted = [torch.cat(level) for level in zip(*targets, strict=True)]
        guess = [head(level) for head, level in zip(student.heads, levels, strict=True)]
        report[name] = fidelity(guess, wanted, target.stats)
        report[f"{name}: dead channels"] = [
            round(float((level.amax((0, 2, 3)) == 0).float().mean()), 4) for level in levels
        ]
        report[f"{name}: mean square"] = [round(float(level.square().mean()), 3) for level in levels]
        logger.info("%s: %s", name, {key: value for key, value in report.items() if key.startswith(name)})
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    metadata = {
        "what": "anomalib-mkd quick-start teacher: Conv-ReLU-MaxPool chain, RGB in 0..1, no normalisation",
        "source": "distilled from resnet18.tv_in1k (torchvision IMAGENET1K_V1), layers 1 to 3",
        "images": "generated pictures and photographs of scikit-image (CC0 or public domain)",
        "widths": json.dumps(WIDTHS),
        "seed": str(args.seed),
        "steps": str(args.steps),
        "pictures": str(len(data["train"])),
        "commit": commit.stdout.strip() or "none",
        "report": json.dumps(report),
    }
    state = {name: value.half().contiguous() for name, value in chain.state_dict().items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with whole(args.out) as unfinished:
        save_file(state, unfinished, metadata)
        unfinished.chmod(0o644)
    logger.info("Wrote %s, %d bytes", args.out, args.out.stat().st_size)
    (args.work / "report.json").write_text(json.dumps(report, indent=1))


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder that holds weights/")
    parser.add_argument("--out", type=Path, default=Path("src/anomalib_mkd/weights/quickstart_teacher.safetensors"))
    parser.add_argument("--work", type=Path, default=Path("build/teacher"), help="images, checkpoint and report")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    weights = args.shared / "weights" / "resnet18_tv_in1k_layers1-3_f16.safetensors"
    if not weights.is_file():
        msg = f"Expected ResNet-18's weights at {weights}, found none. Give the folder above weights/ by --shared."
        raise FileNotFoundError(msg)
    args.work.mkdir(parents=True, exist_ok=True)
    data = {
        "train": pool(args.work, "train", [(args.seed, index, None) for index in range(args.pictures)]),
        "new pictures": pool(args.work, "new", [(args.seed + 10_000, index, None) for index in range(256)]),
        "unseen photographs": pool(args.work, "unseen", [(args.seed + 20_000, i, "held_out") for i in range(256)]),
    }
    target = Target(weights).eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    with torch.no_grad():
        target.measure(torch.cat([batch(data["train"], 3, step, FULL) for step in range(16)]))
    finish(args, train(args, target, data["train"]), target, data)


if __name__ == "__main__":
    main()
