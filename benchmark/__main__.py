# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Command line of the benchmark: ``python -m benchmark COMMAND``, the functions below."""

from __future__ import annotations

import logging
import os
import sys
from itertools import product
from pathlib import Path
from typing import Any

import jsonargparse

from benchmark.rows import DATA

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ANOMALIB_MKD_SHARED") or ROOT.parent / "shared")

DRAWN = "drawn3d/"

logger = logging.getLogger("benchmark")


def _prepare(shared: Path, threads: int, work: Path, *, needs_hub: bool) -> None:
    """What must happen before torch and the hub's client are imported."""
    work.mkdir(parents=True, exist_ok=True)
    if work.name != "results":
        (work / ".gitignore").write_text("*\n", encoding="utf-8")
    if needs_hub and (shared / "weights" / "make_hf_cache.py").exists():
        from benchmark.hub import prepare_hub_cache  # noqa: PLC0415

        prepare_hub_cache(shared, work)
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)


def accuracy(
    models: list[str] = ["Mkd", "Stfpm"],  # noqa: B006
    weights: list[str] = ["resnet18.tv_in1k", "quickstart"],  # noqa: B006
    variants: list[str] = ["default", "paper"],  # noqa: B006
    data: list[str] = list(DATA),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    steps: int | None = None,
    batch_size: int = 16,
    threads: int = 2,
    shared: Path = SHARED,
    data_root: Path | None = None,
    results: Path = ROOT / "results" / "accuracy.csv",
    work: Path = ROOT / "results" / "work",
    int8: bool = False,
    judge_otherwise: bool = True,
    dry_run: bool = False,
) -> None:
    """Train and test models, and append one row per metric.

    Runs that the file has are skipped, so the command resumes. Heat maps to look at go to the work folder.

    Args:
        models: Mkd, MixedDistillation, Dcam, Mmrd (needs depth); anomalib's Stfpm (its own recipe: SGD 0.4), Patchcore
            (1 % core set).
        weights: Teacher weights: resnet18.tv_in1k (from the shared folder), quickstart, or another timm name (hub).
        variants: Presets: default (protocol user), paper (protocol paper); of Mkd random_teacher (untrained teacher);
            of the others those of benchmark/variants.py, joined by "+", for example none+width0.25.
        data: Folders under the data root, in MVTec layout; joint4 is one model for the four of the default. For Mmrd
            folders in MVTec 3D-AD's layout, or drawn3d/metal, drawn3d/washer, drawn3d/fabric, which are drawn.
        seeds: Seeds.
        steps: Training steps, of joint data all together; null means the model's own number (Stfpm: 100).
        batch_size: Images per training step.
        threads: Threads of torch.
        shared: Folder with data and weights.
        data_root: Folder of the data sets; null means the shared folder's.
        results: CSV file to append to.
        work: Folder for the weight cache and heat maps, ignored by git.
        int8: Also test the OpenVINO model in 8 bits, calibrated on normal training images; not for Mkd and Patchcore.
        judge_otherwise: After a run of the default also measure it by other maps and scores (product, sigma4, peak,
            ...), without training again.
        dry_run: Only list the runs.
    """
    _prepare(shared, threads, work, needs_hub=not dry_run and bool({"Stfpm", "Patchcore"} & set(models)))
    from benchmark.accuracy import measure_run  # noqa: PLC0415
    from benchmark.rows import commit, has_run  # noqa: PLC0415
    from benchmark.runs import draw_depth_data, plan  # noqa: PLC0415

    source = commit()
    runs = plan(models, weights, variants, data, seeds, steps, batch_size)
    for number, run in enumerate(runs, start=1):
        state = " (there)" if has_run(results, run.run_id) else ""
        logger.info("run %d of %d: %s%s", number, len(runs), run.run_id, state)
        if not dry_run:
            root = work if run.data.startswith(DRAWN) else data_root or shared / "data"
            if root == work:
                draw_depth_data(work, run.data)
            measure_run(
                run,
                results=results,
                shared=shared,
                data_root=root,
                pictures=work / "heat_maps",
                source=source,
                int8=int8,
                judge_otherwise=judge_otherwise,
            )


def stability(
    steps: int,
    model: str = "Mkd",
    data: list[str] = ["mvtec/bottle", "mvtec/screw"],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    weights: str = "resnet18.tv_in1k",
    checkpoints: int = 6,
    batch_size: int = 16,
    threads: int = 2,
    shared: Path = SHARED,
    data_root: Path | None = None,
    results: Path = ROOT / "results" / "accuracy.csv",
    work: Path = ROOT / "results" / "work",
) -> None:
    """Test single late checkpoints at a constant learning rate beside the weights that the user's recipe delivers.

    The figures are reported only; nothing is chosen by them.

    Args:
        steps: Training steps of both.
        model: Mkd, MixedDistillation or Dcam.
        data: Folders under the data root, in MVTec layout.
        seeds: Seeds.
        weights: Teacher weights.
        checkpoints: Late checkpoints per training, evenly spaced over its last half.
        batch_size: Images per training step.
        threads: Threads of torch.
        shared: Folder with data and weights.
        data_root: Folder of the data sets; null means the shared folder's.
        results: CSV file to append to.
        work: Folder for temporary files, ignored by git.
    """
    _prepare(shared, threads, work, needs_hub=False)
    from benchmark.rows import commit  # noqa: PLC0415
    from benchmark.runs import Run  # noqa: PLC0415
    from benchmark.stability import measure_stability  # noqa: PLC0415
    from benchmark.variants import DELIVERED  # noqa: PLC0415

    source = commit()
    for seed in seeds:
        for name in data:
            measure_stability(
                Run(model, DELIVERED, name, seed, weights, "user", steps, batch_size),
                results=results,
                shared=shared,
                data_root=data_root or shared / "data",
                checkpoints=checkpoints,
                source=source,
            )


def selection(
    candidates: dict[str, dict[str, Any]],
    model: str = "Mkd",
    data: list[str] = ["mvtec/bottle", "mvtec/screw"],  # noqa: B006
    seeds: list[int] = [0],  # noqa: B006
    weights: str = "resnet18.tv_in1k",
    steps: int | None = None,
    batch_size: int = 16,
    threads: int = 2,
    shared: Path = SHARED,
    data_root: Path | None = None,
    results: Path = ROOT / "results" / "selection.csv",
    work: Path = ROOT / "results" / "work",
) -> None:
    """Compare a model's settings on anomalies painted on held-out normal training images; no test image is read.

    Args:
        candidates: Arguments of the model by name, for example '{"auto": {"value_weight": "auto"}, "paper":
            {"value_weight": 0.5, "training_steps": 300, "batch_size": 64}}'.
        model: Mkd, MixedDistillation, Dcam or Mmrd (needs depth).
        data: Folders under the data root, in MVTec layout; joint4 is one model for four of them. For Mmrd in MVTec
            3D-AD's layout, painted in colour, in depth, and in both.
        seeds: Seeds of the split, the defects and the training.
        weights: Teacher weights.
        steps: Training steps where a candidate gives none; null means the model's own number.
        batch_size: Images per training step where a candidate gives none.
        threads: Threads of torch.
        shared: Folder with data and weights.
        data_root: Folder of the data sets; null means the shared folder's.
        results: CSV file to append to.
        work: Folder for the painted images, ignored by git.
    """
    _prepare(shared, threads, work, needs_hub=False)
    from benchmark.selection import measure_candidates  # noqa: PLC0415

    measure_candidates(
        candidates,
        model=model,
        data=data,
        seeds=seeds,
        weights=weights,
        steps=steps,
        batch_size=batch_size,
        results=results,
        shared=shared,
        data_root=data_root or shared / "data",
        work=work,
    )


def short_runs(
    models: list[str] = ["MixedDistillation", "Dcam"],  # noqa: B006
    variants: list[str] = ["default"],  # noqa: B006
    data: list[str] = ["mvtec/screw"],  # noqa: B006
    seeds: list[int] = list(range(10)),  # noqa: B006
    steps: int = 100,
    weights: str = "resnet18.tv_in1k",
    batch_size: int = 16,
    threads: int = 2,
    shared: Path = SHARED,
    data_root: Path | None = None,
    results: Path = ROOT / "results" / "short_runs.csv",
    work: Path = ROOT / "results" / "work",
) -> None:
    """Train shortly with many seeds, and say of each whether it collapsed, by held-out normal training images.

    Args:
        models: MixedDistillation, Dcam.
        variants: Those of benchmark/variants.py, joined by "+".
        data: Folders under the data root, in MVTec layout.
        seeds: Seeds.
        steps: Training steps.
        weights: Teacher weights.
        batch_size: Images per training step.
        threads: Threads of torch.
        shared: Folder with data and weights.
        data_root: Folder of the data sets; null means the shared folder's.
        results: CSV file to append to.
        work: Folder for temporary files, ignored by git.
    """
    _prepare(shared, threads, work, needs_hub=False)
    from benchmark.rows import commit  # noqa: PLC0415
    from benchmark.runs import Run  # noqa: PLC0415
    from benchmark.short_runs import measure_short_run  # noqa: PLC0415

    source = commit()
    for seed, model, variant, name in product(seeds, models, variants, data):
        run = Run(model, variant, name, seed, weights, "short", steps, batch_size)
        measure_short_run(run, results=results, shared=shared, data_root=data_root or shared / "data", source=source)


def latency(
    rounds: int = 50,
    threads: int = 1,
    results: Path = ROOT / "results" / "speed.csv",
    work: Path = ROOT / "results" / "work",
) -> None:
    """Time OpenVINO models of 256 px on one image at a time: Dcam, Mmrd, a teacher, PatchCore; in f32 and 8 bits.

    Run it on a machine that does nothing else. Weights are random; no data is needed.

    Args:
        rounds: Turns, in which each model judges one image.
        threads: Threads of OpenVINO.
        results: CSV file to append to.
        work: Folder for temporary files, ignored by git.
    """
    _prepare(SHARED, threads, work, needs_hub=False)
    from benchmark.latency import measure_latency  # noqa: PLC0415

    measure_latency(results=results, rounds=rounds, threads=threads)


def report(check: bool = False, root: Path = ROOT, results: Path | None = None) -> None:
    """Bring the tables of README.md and docs/ up to date with the rows.

    Args:
        check: Write nothing; exit with status 1 if a document differs.
        root: Root of the repository.
        results: Folder of CSV files; null means the repository's.
    """
    from benchmark.report import report as update  # noqa: PLC0415

    changed = update(root, results or root / "results", check=check)
    for path in changed:
        logger.info("%s %s", "differs:" if check else "updated:", path)
    if check and changed:
        sys.exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: Words of the command line; the process's own if ``None``.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    commands: list[Any] = [accuracy, stability, selection, short_runs, latency, report]
    jsonargparse.auto_cli(commands, args=arguments, prog="benchmark")


if __name__ == "__main__":
    main()
