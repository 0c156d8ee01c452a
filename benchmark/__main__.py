# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Command line of the benchmark: ``python -m benchmark COMMAND``, the functions below."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from benchmark.rows import CHECKED, CHOOSING, DATA, JUDGING, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED = Path(os.environ.get("ANOMALIB_MKD_SHARED") or ROOT.parent / "shared") / "data"
DATA_ROOT = SHARED if SHARED.is_dir() else Path("datasets")

DRAWN = "drawn3d/"

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Setup:
    """Options of every command that measures.

    Args:
        data_root: Folder of the data sets.
        teacher: timm's name of the teacher, or quickstart for the embedded one.
        weights: File with the teacher's weights; null takes them from the hub or its cache.
        batch_size: Images per training step.
        threads: Threads of torch, or of OpenVINO when timing it.
        results: CSV file to append to; null for the command's own in results/.
        work: Folder for heat maps and painted or drawn data sets, ignored by git.
    """

    data_root: Path = DATA_ROOT
    teacher: str = "resnet18.tv_in1k"
    weights: Path | None = None
    batch_size: int = 16
    threads: int = 1
    results: Path | None = None
    work: Path = ROOT / "results" / "work"

    def prepare(self) -> None:
        """Make the work folder, and set torch's threads."""
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / ".gitignore").write_text("*\n", encoding="utf-8")
        import torch  # noqa: PLC0415  # tables do not need it

        torch.set_num_threads(self.threads)

    def file(self, name: str) -> Path:
        """Return the CSV file of a command whose default file is ``name``."""
        return self.results or ROOT / "results" / name

    @property
    def run(self) -> dict[str, Any]:
        """Arguments of every run."""
        return {"teacher": self.teacher, "weights": self.weights, "batch_size": self.batch_size}


def accuracy(
    setup: Setup,
    models: list[str] = ["MixedDistillation"],  # noqa: B006
    variants: list[str] = ["default"],  # noqa: B006
    data: list[str] = list(DATA),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    steps: int | None = None,
    pictures: list[int] = [],  # noqa: B006
    int8: bool = False,
    otherwise: bool = True,
    dry_run: bool = False,
) -> None:
    """Train and test models, and append one row per metric.

    Runs already in the file are skipped, so the command resumes. Heat maps are saved in the work folder.

    Args:
        setup: Common options.
        models: Mkd, MixedDistillation, Dcam, Mmrd (needs depth); anomalib's Stfpm (its own recipe: SGD 0.4), Patchcore
            (1 % core set; 10 % with the variant coreset0.1).
        variants: Presets of benchmark/variants.py, joined by "+", for example none+width0.25; paper is tested by the
            paper's protocol.
        data: Folders under the data root, in MVTec layout; joint4 is one model for the four of the default, joint10
            for all ten. For Mmrd folders in MVTec 3D-AD's layout, or drawn3d/metal, drawn3d/washer, drawn3d/fabric,
            which are drawn; with the variant rgb, photos alone.
        seeds: Seeds.
        steps: Training steps, in total for joint data; null for the model's own number (Stfpm: 100).
        pictures: Numbers of good training images to train with, drawn by the seed; none for all.
        int8: Also test the OpenVINO model in 8 bits, calibrated on normal training images; not for Mkd and Patchcore.
        otherwise: After a run of the default, also measure its other maps and scores (product, sigma4, peak, ...)
            without training again.
        dry_run: Only list the runs.
    """
    from benchmark.accuracy import measure_run  # noqa: PLC0415
    from benchmark.rows import commit, has_run  # noqa: PLC0415
    from benchmark.runs import check_runs, draw_depth_data, plan  # noqa: PLC0415

    if pictures and "paper" in variants:
        msg = "Expected no variant 'paper' with --pictures, whose protocol is another. Run it with all images."
        raise ValueError(msg)
    source, results = commit(), setup.file("accuracy.csv")
    protocols: list[dict[str, str]] = [{"protocol": f"good{number}"} for number in pictures] or [{}]
    runs = [run for few in protocols for run in plan(models, variants, data, seeds, steps, **setup.run, **few)]
    check_runs([run for run in runs if not run.data.startswith(DRAWN)], setup.data_root)
    for number, run in enumerate(runs, start=1):
        state = " (there)" if has_run(results, run.key) else ""
        logger.info("run %d of %d: %s%s", number, len(runs), run.name, state)
        if dry_run:
            continue
        root = setup.work if run.data.startswith(DRAWN) else setup.data_root
        if root == setup.work:
            draw_depth_data(root, run.data)
        maps = setup.work / "heat_maps"
        measure_run(run, results=results, data_root=root, pictures=maps, source=source, int8=int8, otherwise=otherwise)


def scores(
    setup: Setup,
    model: str = "MixedDistillation",
    variant: str = "default",
    data: list[str] | None = None,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    steps: int | None = None,
    keep: Path | None = None,
) -> None:
    """Write the raw score of every image after a training that held out good ones, to compare thresholds.

    Args:
        setup: Common options.
        model: MixedDistillation, Dcam or Mkd.
        variant: Preset, as for "accuracy".
        data: Folders under the data root, in MVTec layout; null for ten, in two halves: see benchmark/good_scores.py.
        seeds: Seeds of the split and of the training.
        steps: Training steps; null for the model's own number.
        keep: Folder for the trained weights; null keeps none.
    """
    from benchmark.good_scores import measure_scores  # noqa: PLC0415
    from benchmark.runs import plan  # noqa: PLC0415

    common = {**setup.run, "protocol": "held_out"}
    for run in plan([model], [variant], data or [*CHOOSING, *JUDGING], seeds, steps, **common):
        file = setup.results or ROOT / "results" / "pictures" / "scores.csv"
        measure_scores(run, file=file, data_root=setup.data_root, keep=keep)


def thresholds(setup: Setup, scored: Path = ROOT / "results" / "pictures" / "scores.csv") -> None:
    """Compare rules of thresholds on the scores of "scores", and write a row per rule, data set and seed anew.

    Args:
        setup: Common options.
        scored: The file of "scores".
    """
    from benchmark.rows import append_rows, commit, read_rows  # noqa: PLC0415
    from benchmark.rules import read_scores, rule_rows  # noqa: PLC0415

    source = commit()
    rows = [row for each in read_scores(scored) for row in rule_rows(each, source)]
    file = setup.file("thresholds.csv")
    if {row.variant for row in read_rows(file)} - {row.variant for row in rows}:
        msg = f"Expected a file of rules of thresholds as --results, got other rows in {file}. Name another file."
        raise ValueError(msg)
    append_rows(file, rows, anew=True)


def eight_bits(
    setup: Setup,
    kept: Path,
    model: str = "MixedDistillation",
    data: list[str] | None = None,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    steps: int | None = None,
) -> None:
    """Compare exports in f32 and in 8 bits: metrics, parts caught and false alarms at the threshold of each.

    Args:
        setup: Common options.
        kept: Folder of trained weights: that of "scores --keep", with the same options; what is missing is trained.
        model: MixedDistillation, Dcam, or Mmrd on data with depth.
        data: As for "scores".
        seeds: Seeds.
        steps: Training steps; null for the model's own number.
    """
    from benchmark.eight_bits import measure_eight_bits  # noqa: PLC0415
    from benchmark.runs import plan  # noqa: PLC0415

    common = {**setup.run, "protocol": "held_out"}
    for run in plan([model], ["default"], data or [*CHOOSING, *JUDGING], seeds, steps, **common):
        measure_eight_bits(run, kept=kept, results=setup.file("eight_bits.csv"), data_root=setup.data_root)


def stability(
    setup: Setup,
    model: str = "Mkd",
    data: list[str] = ["mvtec/bottle", "mvtec/screw"],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    steps: int = 300,
    checkpoints: int = 6,
) -> None:
    """Test single late checkpoints at a constant learning rate, and the final weights of the user's recipe.

    The figures are only reported; nothing is chosen by them.

    Args:
        setup: Common options.
        model: Mkd, MixedDistillation or Dcam.
        data: Folders under the data root, in MVTec layout.
        seeds: Seeds.
        steps: Training steps of both.
        checkpoints: Late checkpoints per training, evenly spaced over its last half.
    """
    from benchmark.rows import commit  # noqa: PLC0415
    from benchmark.runs import plan  # noqa: PLC0415
    from benchmark.stability import measure_stability  # noqa: PLC0415
    from benchmark.variants import DELIVERED  # noqa: PLC0415

    source, results = commit(), setup.file("accuracy.csv")
    for run in plan([model], [DELIVERED], data, seeds, steps, **setup.run):
        measure_stability(run, results=results, data_root=setup.data_root, checkpoints=checkpoints, source=source)


def selection(
    setup: Setup,
    candidates: dict[str, dict[str, Any]],
    model: str = "MixedDistillation",
    data: list[str] = ["mvtec/screw", "magnetic_tile/mt"],  # noqa: B006
    seeds: list[int] = [0],  # noqa: B006
    steps: int | None = None,
) -> None:
    """Compare a model's settings on anomalies painted on held-out normal training images; no test image is read.

    Args:
        setup: Common options.
        candidates: Arguments of the model by name, for example '{"default": {}, "long": {"training_steps": 600,
            "batch_size": 8}}'.
        model: Mkd, MixedDistillation, Dcam or Mmrd (needs depth).
        data: Folders under the data root, in MVTec layout; joint4 is one model for four of them, joint10 for ten.
            For Mmrd in MVTec 3D-AD's layout, painted in colour, in depth, and in both.
        seeds: Seeds of the split, the defects and the training.
        steps: Training steps of candidates without their own; null for the model's own number.
    """
    from benchmark.selection import measure_candidates  # noqa: PLC0415

    measure_candidates(
        candidates,
        model=model,
        data=data,
        seeds=seeds,
        steps=steps,
        results=setup.file("selection.csv"),
        data_root=setup.data_root,
        work=setup.work,
        **setup.run,
    )


def short_runs(
    setup: Setup,
    models: list[str] = ["MixedDistillation", "Dcam"],  # noqa: B006
    variants: list[str] = ["default"],  # noqa: B006
    data: list[str] = ["mvtec/screw"],  # noqa: B006
    seeds: list[int] = list(range(10)),  # noqa: B006
    steps: int = 100,
) -> None:
    """Run short trainings with many seeds, and report which collapsed, using held-out normal training images.

    Args:
        setup: Common options.
        models: MixedDistillation, Dcam.
        variants: Those of benchmark/variants.py, joined by "+".
        data: Folders under the data root, in MVTec layout.
        seeds: Seeds.
        steps: Training steps.
    """
    from benchmark.rows import commit  # noqa: PLC0415
    from benchmark.runs import Run  # noqa: PLC0415
    from benchmark.short_runs import measure_short_run  # noqa: PLC0415

    source, results = commit(), setup.file("short_runs.csv")
    for seed, model, variant, name in product(seeds, models, variants, data):
        run = Run(model, variant, name, seed, steps=steps, protocol="short", **setup.run)
        measure_short_run(run, results=results, data_root=setup.data_root, source=source)


def latency(setup: Setup, rounds: int = 50) -> None:
    """Time OpenVINO models of 256 px on one image at a time: Dcam, Mmrd, a teacher, PatchCore; in f32 and 8 bits.

    Run it on an otherwise idle machine. Weights are random; no data is needed.

    Args:
        setup: Common options.
        rounds: Number of rounds; in each, every model predicts on one image.
    """
    from benchmark.latency import measure_latency  # noqa: PLC0415

    measure_latency(results=setup.file("speed.csv"), rounds=rounds, threads=setup.threads, backbone=setup.teacher)


def deployment(setup: Setup, exports: list[Path], rounds: int = 50, side: int = 256) -> None:
    """Measure exports on the line, in an environment without torch: its size, the start, one image, and many.

    Run it on an otherwise idle machine. The environment is installed from the package index.

    Args:
        setup: Common options.
        exports: The .xml files, each with its .bin and .json; they take turns.
        rounds: Counted turns.
        side: Side of the images in pixels.
    """
    from benchmark.deployment import measure_deployment  # noqa: PLC0415

    results = setup.file("deployment.csv")
    measure_deployment(
        [path.resolve() for path in exports], results=results, rounds=rounds, threads=setup.threads, side=side
    )


def battery(setup: Setup, models: list[str] = list(CHECKED)) -> None:  # noqa: B006
    """Put models to the checks of benchmark/battery.py, and append a row per check: passed, failed or skipped.

    No network is used: what is not in the hub's cache is "not to be had".

    Args:
        setup: Common options; only threads and results count.
        models: Ours, and anomalib's Stfpm, ReverseDistillation, Patchcore, EfficientAd.
    """
    from benchmark.battery import measure_battery  # noqa: PLC0415
    from benchmark.rows import commit  # noqa: PLC0415

    source, results = commit(), setup.file("battery.csv")
    for model in models:
        measure_battery(model, results=results, source=source)


def fuzz(setup: Setup, minutes: float = 10.0, seed: int = 0) -> None:
    """Put odd images, folders, arrays and arguments to our doors, and append what was found to results/fuzzing.md.

    Args:
        setup: Common options; only threads and results count.
        minutes: Time.
        seed: Of the inputs.
    """
    from benchmark.fuzzing import fuzz_doors  # noqa: PLC0415
    from benchmark.rows import commit  # noqa: PLC0415

    fuzz_doors(setup.file("fuzzing.md"), seed=seed, minutes=minutes, source=commit())


def report(check: bool = False, show: str | None = None, root: Path = ROOT, results: Path | None = None) -> None:
    """Bring the tables of README.md and docs/ up to date with the rows.

    Args:
        check: Write nothing; exit with status 1 if a document differs.
        show: Write nothing; print the table of this name in benchmark/report.py.
        root: Root of the repository.
        results: Folder of CSV files; null for the repository's.
    """
    from benchmark.report import documents, find_table, update  # noqa: PLC0415
    from benchmark.rows import read_folder  # noqa: PLC0415

    rows = read_folder(results or root / "results")
    if show is not None:
        print(find_table(show).markdown(rows))
        return
    if not documents(root):
        msg = f"Expected README.md or docs/ in --root {root}, got neither. Name the root of the repository."
        raise ValueError(msg)
    changed = update(root, rows, check=check)
    for path in changed:
        logger.info("%s %s", "differs:" if check else "updated:", path)
    if check and changed:
        sys.exit(1)


MEASURING: tuple[Callable[..., None], ...] = (
    accuracy,
    scores,
    thresholds,
    eight_bits,
    stability,
    selection,
    short_runs,
    latency,
    deployment,
    battery,
    fuzz,
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: Arguments of the command line; the process's own if ``None``.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    parser = jsonargparse.ArgumentParser(prog="python -m benchmark", description=sys.modules["benchmark"].__doc__)
    commands: Any = parser.add_subcommands()
    for command in (*MEASURING, report):
        help_text = str(command.__doc__).partition("\n")[0]
        own = jsonargparse.ArgumentParser(description=help_text)
        if command in MEASURING:
            own.add_class_arguments(Setup)
        own.add_function_arguments(command, skip={"setup", "check"})
        if command is report:
            own.add_argument("--check", action="store_true", help="Write nothing; exit with status 1 if one differs.")
        commands.add_subcommand(command.__name__, own, help=help_text)
    parsed = parser.instantiate_classes(parser.parse_args(arguments))
    options = vars(parsed[parsed.subcommand])
    command = globals()[parsed.subcommand]
    try:
        if command in MEASURING:
            setup = Setup(**{field.name: options.pop(field.name) for field in dataclasses.fields(Setup)})
            setup.prepare()
            command(setup, **options)
        else:
            command(**options)
    except (ValueError, OSError) as error:
        if not str(error).startswith("Expected"):
            raise
        sys.exit(str(error))


if __name__ == "__main__":
    main()
