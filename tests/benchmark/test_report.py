# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tables say what the rows say, and the committed documents agree with the committed rows."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.__main__ import main
from benchmark.report import (
    CATEGORIES,
    FEW,
    MARKED,
    RESNET18,
    SCANS,
    SHORT,
    TABLES,
    VGG,
    documents,
    is_single,
    render,
    study,
    update,
)
from benchmark.rows import COMPARE, DATA, INT8, Row, append_rows, read_folder
from benchmark.tables import EMPTY, over_seeds, percent

ROOT = Path(__file__).resolve().parents[2]
PAPER_MAP = "map345+absolute"
OURS, FAST, THEIRS = (
    ("MixedDistillation", "default", 300),
    ("MixedDistillation", "size144", 300),
    ("Patchcore", "coreset0.01", 0),
)


def make_row(value: float, **changes: object) -> Row:
    fields: dict[str, object] = {
        "model": "Mkd",
        "variant": "default",
        "data": "mvtec/bottle",
        "subset": "all",
        "seed": 0,
        "batch": 16,
        "steps": 300,
        "metric": "image_AUROC",
        "epochs": 2.0,
        "image_size": 128,
        "precision": "f32",
        "weights": "quickstart",
        "protocol": "user",
        "machine": "chip",
        "versions": "v",
        "commit": "c",
    } | changes
    fields["category"] = str(fields["data"]).rsplit("/", 1)[-1]
    name = "-".join(str(fields[key]) for key in ("model", "variant", "weights", "data"))
    return Row(run_id=f"{name}-s{fields['seed']}", value=value, **fields)  # type: ignore[arg-type]


def lines_of(table: str, rows: list[Row]) -> list[str]:
    """Lines of a table between its header and its note."""
    return [line for line in TABLES[table].markdown(rows).splitlines()[2:] if line.startswith("|")]


def two_categories() -> list[Row]:
    return [
        make_row(value + 0.01 * seed, data=data, seed=seed, weights=VGG, steps=1200)
        for data, value in zip(DATA[:2], (0.9, 0.7), strict=True)
        for seed in (0, 1, 2)
    ]


def test_methods_stand_side_by_side() -> None:
    other = {"model": "Dcam", "weights": RESNET18}
    rows = [*two_categories(), make_row(0.5, **other), make_row(0.1, **other, precision=INT8), make_row(0.2)]
    lines = TABLES["every-model"].markdown(rows).splitlines()
    assert (
        lines[0]
        == "| image AUROC / AUPRO | MixedDistillation | fast | accurate | 384 px | width 1, 600 steps | Dcam | Mkd "
        "| Stfpm | PatchCore 1 % |"
    )
    assert lines[2:] == ["| bottle |  |  |  |  |  | 50.0 | 91.0 |  |  |", "| screw |  |  |  |  |  |  | 71.0 |  |  |"]


def metrics_of(image_auroc: float, aupro: float, **changes: object) -> list[Row]:
    """Rows of one test: image AUROC and AUPRO."""
    values = {"image_AUROC": image_auroc, "AUPRO": aupro}
    return [make_row(value, metric=metric, **changes) for metric, value in values.items()]


def joint_rows(values: tuple[float, ...], **changes: object) -> list[Row]:
    """Rows of one joint test: the same value for both metrics of a category."""
    rows = metrics_of(sum(values) / 4, sum(values) / 4, data="joint4", **changes)
    own = [(category, row) for category in CATEGORIES for row in rows]
    spread = zip(own, (value for value in values for _ in rows), strict=True)
    return [
        *(dataclasses.replace(row, category=category, value=value) for (category, row), value in spread),
        *(dataclasses.replace(row, category="mean") for row in rows),
    ]


def test_defects_stand_under_their_category() -> None:
    rows = [
        make_row(
            value, data=data, subset=defect, model=model, variant=variant, steps=0 if model == "Patchcore" else 300
        )
        for data, defect, model, variant, value in (
            ("magnetic_tile/mt", "all", "Dcam", "default", 0.7),
            ("mvtec/screw", "all", "Dcam", "default", 0.9),
            ("mvtec/bottle", "all", "Dcam", "default", 1.0),
            ("mvtec/screw", "thread_side", "Dcam", "default", 0.8),
            ("mvtec/screw", "thread_side", "Patchcore", "coreset0.01", 0.95),
            ("mvtec/screw", "thread_side", "Dcam", "width0.25", 0.1),
        )
    ]
    assert lines_of("defects", rows) == [
        "| screw | all of them |  | 90.0 |  |  |",
        "| screw | thread_side |  | 80.0 |  | 95.0 |",
        "| mt | all of them |  | 70.0 |  |  |",
    ]


def test_few_images_by_hand() -> None:
    """Lines go by the number of images, over the seeds for which both models have all four data sets."""
    usual = {"weights": RESNET18, "variant": "default", "model": "MixedDistillation", "steps": 300}
    theirs = {"weights": RESNET18, "variant": "coreset0.01", "model": "Patchcore", "steps": 0}
    tenth = {**theirs, "variant": "coreset0.1"}
    rows = [
        row
        for seed, lacking in ((0, 0), (1, 1))  # the second seed lacks one data set of PatchCore's
        for value, common, data in ((0.9, usual, FEW), (0.7, theirs, FEW[lacking:]), (0.8, tenth, FEW))
        for each in data
        for row in metrics_of(value - 0.2 * seed, value - 0.1, data=each, seed=seed, protocol="good5", **common)
    ]
    rows += [row for each in FEW[1:] for row in metrics_of(0.5, 0.5, data=each, seed=0, protocol="good100", **usual)]
    assert lines_of("few-pictures", rows) == [
        "| 5 | 90.0 / 80.0 | 70.0 / 60.0 | 80.0 / 70.0 |",
        "| 100 |  |  |  |",
    ]


def test_study_by_hand() -> None:
    """Each cell holds image AUROC and AUPRO, mt stands apart; exports in 8 bits and painted rows stay out."""
    rows = [
        row
        for seed in (0, 1)
        for data, value in zip(DATA, (0.9, 0.8, 0.7, 0.4), strict=True)
        for row in metrics_of(value + 0.02 * seed, 0.5, model="Dcam", variant="no_gate", data=data, seed=seed)
    ]
    rows.append(dataclasses.replace(rows[0], value=0.1, precision="int8"))
    rows += [dataclasses.replace(rows[0], value=0.1, protocol="painted6"), dataclasses.replace(rows[0], model="Mkd")]
    alone = "| embedded | each | 300 x 16 | 2 "
    cells = [f"| {mean}±1.4 / 50.0±0.0 " for mean in ("91.0", "81.0", "71.0", "41.0", "71.0")]
    header, _, *lines = TABLES["gates-dcam"].markdown(rows).splitlines()
    assert header.endswith("| Seeds | bottle | screw | metal_plate | mt (texture) | mean |")
    assert lines == [f"| none {alone}{''.join(cells)}|"]
    assert TABLES["other-dcam"].markdown(rows) == EMPTY
    one_mt_less = TABLES["gates-dcam"].markdown(rows[:-5]).splitlines()[2]  # one seed has all categories
    assert one_mt_less.endswith("| 71.0±1.4 / 50.0±0.0 | 40.0 / 50.0 | 70.0 / 50.0 |")


def test_names_of_the_same_model_share_a_line_and_lengths_do_not() -> None:
    model = "MixedDistillation"
    rows = metrics_of(0.8, 0.8, model=model) + metrics_of(0.6, 0.6, model=model, variant="bf16", seed=1)
    longer = metrics_of(0.9, 0.9, model=model, seed=2)
    rows += [dataclasses.replace(row, steps=600) for row in longer]
    text = study(model, {"the default": ["default", "bf16"]}).markdown(rows)
    lines = [line for line in text.splitlines() if line.startswith("| the default")]
    assert [line.split(" | ")[1:4] for line in lines] == [
        ["300 x 16", "2", "70.0±14.1 / 70.0±14.1"],
        ["600 x 16", "1", "90.0 / 90.0"],
    ]


def test_joint_stands_beside_single() -> None:
    joint = joint_rows((0.9, 0.6, 0.9, 0.7), model="Dcam")
    single = [row for data in DATA for row in metrics_of(0.8, 0.7, model="Dcam", data=data)]
    longer = [dataclasses.replace(row, value=0, steps=600) for row in single]
    start = "| Dcam, default |"
    lines = lines_of("joint", joint + longer + single)
    together = "90.0 / 90.0 | 60.0 / 60.0 | 90.0 / 90.0 | 70.0 / 70.0 | 77.5 / 77.5"
    points = "+10.0 / +20.0 | -20.0 / -10.0 | +10.0 / +20.0 | -10.0 / +0.0 | -2.5 / +7.5"
    assert lines == [
        f"{start} all four | 300 x 16 | 1 | {together} |",
        f"{start} each | 300 x 16 | 1 {5 * '| 80.0 / 70.0 '}|",
        f"{start} difference |  |  | {points} |",
    ]
    assert len(lines_of("joint", joint + single[:-2])) == 3  # the single mt is missing
    assert len(lines_of("joint", joint)) == 1
    assert TABLES["joint"].markdown(single) == EMPTY
    assert TABLES["every-model"].markdown(joint) == EMPTY


def test_stability_puts_checkpoints_beside_what_is_delivered() -> None:
    rows = [make_row(value, variant=f"constant_step{step}") for step, value in ((250, 0.80), (300, 0.90))]
    rows += [make_row(0.95, variant="delivered"), make_row(0.2), make_row(0.7, variant="delivered", subset="dent")]
    start = "| bottle, image AUROC"
    assert lines_of("stability", rows) == [
        f"{start} | single checkpoints | 85.0±7.1 | 80.0 to 90.0 | 10.0 |",
        f"{start} | delivered | 95.0 | 95.0 to 95.0 |  |",
    ]


def test_what_all_lines_share_is_noted_below() -> None:
    rows = [
        make_row(value, variant=variant, seed=seed)
        for value, variant, seed in ((0.9, PAPER_MAP, 0), (0.8, f"random_teacher+{PAPER_MAP}", 0), (0.7, PAPER_MAP, 1))
    ]
    text = TABLES["quickstart"].markdown(rows)
    assert "| Seeds |" in text
    assert "All lines" not in text
    text = TABLES["quickstart"].markdown(rows[:2])
    assert "Seeds" not in text
    assert text.endswith("|\n\nAll lines: seeds 1.")


def test_speed_by_hand() -> None:
    values = {"latency_seconds": 0.0468, "latency_spread": 0.0021, "latency_ratio": 1.4, "megabytes": 14.9}
    rows = [
        make_row(value, model="Dcam", metric=metric, protocol="speed", precision="int8", **changes)
        for changes in (
            {"machine": "Intel chip; AVX2 AVX512-BF16"},
            {"machine": "other chip; AVX2 AVX512-BF16"},
            {"machine": "Intel chip; AVX2 AMX-INT8", "variant": "width0.25"},  # in the table of widths
        )
        for metric, value in values.items()
    ]
    assert lines_of("speed", rows) == ["| Dcam, default | int8 | 14.9 |  |  | 46.8 (2.1), 1.40 |  |"]


def test_means_are_of_models_tested_on_all_sets() -> None:
    values: dict[str, dict[tuple[str, str, int], tuple[float, ...]]] = {
        "mvtec/bottle": {OURS: (1.0, 0.8), FAST: (0.8,), THEIRS: (0.7,)},
        "deeppcb/group20085": {OURS: (0.7,), THEIRS: (0.3,)},
        "mvtec/screw": {OURS: (0.9,), FAST: (0.8,), THEIRS: (0.7,)},
    }
    rows = [
        make_row(
            value, model=model, variant=variant, steps=taken, weights=RESNET18, data=data, metric=metric, seed=seed
        )
        for data, shown in values.items()
        for (model, variant, taken), of_seeds in shown.items()
        for seed, value in enumerate(of_seeds)
        for metric in ("image_AUROC", "AUPRO", "train_seconds")
    ]
    rows += metrics_of(0.9, 0.9, model="MixedDistillation", weights=RESNET18, precision=INT8)
    unmasked = {"model": "MixedDistillation", "weights": RESNET18, "data": "anomalib_dobot/cubes", "steps": 300}
    assert lines_of("every-model", [*rows, make_row(1.0, **unmasked)]) == [
        "| bottle | 90.0 / 90.0 | 80.0 / 80.0 |  |  |  |  |  |  | 70.0 / 70.0 |",
        "| group20085 | 70.0 / 70.0 |  |  |  |  |  |  |  | 30.0 / 30.0 |",
        "| screw | 90.0 / 90.0 | 80.0 / 80.0 |  |  |  |  |  |  | 70.0 / 70.0 |",
        "| cubes | 100.0 |  |  |  |  |  |  |  |  |",
        "| mean of 3 | 83.3 / 83.3 |  |  |  |  |  |  |  | 56.7 / 56.7 |",
        "| mean of 2, no boards | 90.0 / 90.0 | 80.0 / 80.0 |  |  |  |  |  |  | 70.0 / 70.0 |",
    ]


def test_verdicts_by_hand() -> None:
    def rows(model: str, category: str, **shares: float) -> list[Row]:
        own = {"model": model, "protocol": COMPARE, "data": category}
        return [make_row(value, metric=metric, **own) for metric, value in shares.items()]

    measured = [
        *rows("MixedDistillation", "a", caught=0.5, false_alarms=0.25, int8_caught=0.6, int8_false_alarms=0.1),
        *rows("MixedDistillation", "b", caught=1.0, false_alarms=0.05),
        *rows("Patchcore", "b", caught=0.0, false_alarms=1.0),
    ]
    assert lines_of("verdicts", measured) == [
        "| a | 50.0 / 25.0 | 60.0 / 10.0 |  |  |  |  |",
        "| b | 100.0 / 5.0 |  |  |  | 0.0 / 100.0 |  |",
        "| mean | 75.0 / 15.0 |  |  |  |  |  |",
    ]
    timed = rows("Patchcore", "a", training_seconds=12.4)
    assert lines_of("training", timed)[0] == "| a |  |  |  | 12 |"


def test_the_price_of_width_is_that_of_one_machine() -> None:
    speed = {"model": "Dcam", "metric": "latency_seconds", "protocol": "speed", "data": "noise", "steps": 0}
    chip = {"machine": "chip; AMX-INT8"}
    rows = [
        make_row(0.0468, **speed, precision="int8", machine="other"),
        make_row(0.0094, **speed, precision="int8", **chip),
        make_row(0.0288, **speed, precision="f32", **chip),
        *(
            make_row(value, metric=metric, data=data, model=model, variant=variant, machine=machine)
            for data in DATA
            for metric, value in {"image_AUROC": 0.9, "AUPRO": 0.8, "train_seconds": 77.0}.items()
            for model, variant, machine in (
                ("Dcam", "default", chip["machine"]),
                ("Dcam", "default+bf16", "other"),
                ("Dcam", "width1.0", "other"),
                ("MixedDistillation", "width0.25", chip["machine"]),
            )
        ),
    ]
    assert lines_of("price", rows) == [
        "| 0.5, the default | Dcam | 90.0 / 80.0 | 77 |  |  | 28.8 | 9.4 |",
        "| 0.25 | MixedDistillation | 90.0 / 80.0 | 77 |  |  |  |  |",
    ]


def test_short_runs_by_hand() -> None:
    rows = [
        make_row(float(seed == 3), seed=seed, model="Dcam", metric="collapsed", protocol="short") for seed in range(10)
    ]
    assert lines_of("short_runs", rows) == ["| Dcam, default | embedded | bottle | 300 x 16 | 10 | 1 |"]


def test_quickstart_against_random() -> None:
    rows = [make_row(0.95, variant=PAPER_MAP), make_row(0.75, variant=f"random_teacher+{PAPER_MAP}")]
    text = TABLES["quickstart"].markdown(rows)
    assert "| distilled from ResNet-18 | 95.0 |" in text
    assert "| random weights | 75.0 |" in text


def test_paper_means_are_the_published_ones() -> None:
    lines = TABLES["paper"].markdown(read_folder(ROOT / "results")).splitlines()
    assert len(lines) == 2 + 2 + 1
    assert lines[-1] == "| mean of all 15 | 87.74 |  | 90.71 |  |"


def test_percent() -> None:
    assert percent([0.5, 0.6]) == "55.0±7.1"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_empty_without_rows(name: str) -> None:
    assert TABLES[name].markdown([]) == EMPTY


def test_documents_are_updated_then_agree(tmp_path: Path) -> None:
    rows = two_categories()
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n<!-- table:every-model -->\nold\n<!-- /table -->\n\nafter\n", encoding="utf-8")
    page = tmp_path / "docs" / "deep" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text("<!-- table:defects -->\n<!-- /table -->\n", encoding="utf-8")
    assert update(tmp_path, rows, check=True) == [readme, page]
    assert "old" in readme.read_text(encoding="utf-8")
    assert update(tmp_path, rows) == [readme, page]
    assert update(tmp_path, rows, check=True) == []
    text = readme.read_text(encoding="utf-8")
    assert "91.0" in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


def test_bad_markers_are_named() -> None:
    with pytest.raises(ValueError, match="Expected a table among defects, quickstart"):
        render("<!-- table:every-modell -->\n<!-- /table -->\n", [])
    with pytest.raises(ValueError, match="Expected 1 tables to end"):
        render("<!-- table:every-model -->\n", [])


def test_report_command_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- table:every-model -->\n<!-- /table -->\n", encoding="utf-8")
    append_rows(tmp_path / "results" / "other.csv", [make_row(0.5, protocol="other")])
    code = (
        "import sys; from benchmark.__main__ import main; main(sys.argv[1:]); "
        "sys.exit(3 if 'torch' in sys.modules else 0)"
    )
    command = [sys.executable, "-c", code, "report", "--root", str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 0  # noqa: S603
    assert EMPTY in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_committed_documents_agree_with_committed_rows() -> None:
    rows = read_folder(ROOT / "results")
    for path in documents(ROOT):
        text = path.read_text(encoding="utf-8")
        if MARKED.search(text):
            assert render(text, rows) == text, f"run python -m benchmark report ({path})"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_rows(name: str) -> None:
    assert TABLES[name].markdown(read_folder(ROOT / "results")) != EMPTY


def test_a_table_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", "--show", "paper"])
    assert "| mean of all 15 | 87.74 |  | 90.71 |  |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "variant", "timed"),
    [
        ("MixedDistillation", "default", ("Dcam", "default")),  # the same networks at inference
        ("Dcam", "default", ("Dcam", "default")),
        ("Mmrd", "default", ("Mmrd", "default")),
        ("Mkd", "default", None),
        ("PatchCore", "coreset0.01", ("Patchcore", "bottle")),
    ],
)
def test_the_readme_quotes_the_rows(model: str, variant: str, timed: tuple[str, str] | None) -> None:
    rows = read_folder(ROOT / "results")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in readme.splitlines() if line.startswith((f"| `{model}` |", f"| {model} |")))
    cells = [cell.strip() for cell in line.split("|")]
    scans = model == "Mmrd"
    tested = [
        row
        for row in rows
        if (row.model.lower(), row.variant, row.protocol) == (model.lower(), variant, "user")
        and (row.data == SCANS and row.precision != INT8 if scans else is_single(row))
        and (model != "Mkd" or row.weights == VGG)
    ]
    categories = (SCANS.rsplit("/", 1)[-1],) if scans else CATEGORIES
    means = [100 * statistics.fmean(over_seeds(tested, metric, categories)) for metric in SHORT]
    assert cells[3] == " / ".join(f"{mean:.1f}" for mean in means)
    if timed:
        speed = {
            row.metric: row.value
            for row in rows
            if (row.protocol, row.precision) == ("speed", INT8)
            and (row.model, row.variant) == timed
            and row.machine.endswith("AMX-INT8")
        }
        assert cells[4:6] == [f"{1000 * speed['latency_seconds']:.1f} ms", f"{speed['megabytes']:.1f} MB"]
