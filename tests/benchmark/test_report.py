# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tables say what the rows say, and the committed documents agree with the committed rows."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.report import CATEGORIES, EMPTY, MARKED, TABLES, documents, percent, render, report
from benchmark.rows import DATA, Row, append_rows, read_folder

ROOT = Path(__file__).resolve().parents[2]


def make_row(value: float, **changes: object) -> Row:
    fields: dict[str, object] = {
        "model": "Mkd",
        "variant": "default",
        "data": "mvtec/bottle",
        "subset": "all",
        "seed": 0,
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
    return Row(run_id=f"{name}-s{fields['seed']}-b16-n300", value=value, **fields)  # type: ignore[arg-type]


def four_categories() -> list[Row]:
    return [
        make_row(value + 0.01 * seed, data=data, seed=seed)
        for data, value in zip(DATA, (0.9, 0.7, 0.8, 0.6), strict=True)
        for seed in (0, 1, 2)
    ]


def test_accuracy_table_by_hand(tmp_path: Path) -> None:
    lines = TABLES["image"](four_categories(), tmp_path).splitlines()
    assert (
        lines[0] == "| Model, protocol | Teacher | Steps x batch | Seeds | bottle | screw | metal_plate | mt | mean |"
    )
    assert lines[2] == (
        "| Mkd, user | quick-start | 300 x 16 | 3 | 91.0 ± 1.0 | 71.0 ± 1.0 | 81.0 ± 1.0 | 61.0 ± 1.0 | 76.0 ± 1.0 |"
    )
    assert TABLES["pixel"](four_categories(), tmp_path) == EMPTY


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


def test_defects_stand_under_their_category(tmp_path: Path) -> None:
    rows = [
        make_row(value, data=data, subset=defect, model=model, variant=variant)
        for data, defect, model, variant, value in (
            ("mvtec/screw", "all", "Dcam", "default", 0.9),
            ("mvtec/bottle", "all", "Dcam", "default", 1.0),
            ("mvtec/screw", "thread_side", "Dcam", "default", 0.8),
            ("mvtec/screw", "thread_side", "Patchcore", "coreset0.01", 0.95),
            ("mvtec/screw", "thread_side", "Dcam", "width0.25", 0.1),
        )
    ]
    rows = [dataclasses.replace(row, run_id=row.run_id.replace("n300", "nauto")) for row in rows]
    assert TABLES["defects"](rows, tmp_path).splitlines()[2:] == [
        "| bottle | all of them |  | 100.0 |  |  |",
        "| screw | all of them |  | 90.0 |  |  |",
        "| screw | thread_side |  | 80.0 |  | 95.0 |",
    ]


def test_study_by_hand(tmp_path: Path) -> None:
    """Each cell holds image AUROC and AUPRO, mt stands apart; exports in 8 bits and painted rows stay out."""
    rows = [
        row
        for seed in (0, 1)
        for data, value in zip(DATA, (0.9, 0.8, 0.7, 0.4), strict=True)
        for row in metrics_of(value + 0.02 * seed, 0.5, model="Dcam", variant="no_gate", data=data, seed=seed)
    ]
    rows.append(dataclasses.replace(rows[0], value=0.1, run_id=f"{rows[0].run_id}-int8", precision="int8"))
    rows += [dataclasses.replace(rows[0], value=0.1, protocol="painted"), dataclasses.replace(rows[0], model="Mkd")]
    alone = "| quick-start | each | 300 x 16 | 2 "
    cells = [f"| {mean} ± 1.4 / 50.0 ± 0.0 " for mean in ("91.0", "81.0", "71.0", "81.0", "41.0", "71.0")]
    header, _, *lines = TABLES["gates-dcam"](rows, tmp_path).splitlines()
    assert header.endswith("| Seeds | bottle | screw | metal_plate | objects | mt (texture) | mean |")
    assert lines == [f"| none {alone}{''.join(cells)}|"]
    assert TABLES["widths-dcam"](rows, tmp_path) == TABLES["other-dcam"](rows, tmp_path) == EMPTY
    one_mt_less = TABLES["gates-dcam"](rows[:-5], tmp_path).splitlines()[
        2
    ]  # one seed has all categories, two the objects
    assert one_mt_less.endswith("| 81.0 ± 1.4 / 50.0 ± 0.0 | 40.0 / 50.0 | 70.0 / 50.0 |")


def test_names_of_the_same_model_share_a_line_and_lengths_do_not(tmp_path: Path) -> None:
    rows = metrics_of(0.8, 0.8, model="Dcam") + metrics_of(0.6, 0.6, model="Dcam", variant="width0.5", seed=1)
    longer = metrics_of(0.9, 0.9, model="Dcam", seed=2)
    rows += [dataclasses.replace(row, run_id=row.run_id.replace("n300", "n600")) for row in longer]
    lines = TABLES["widths-dcam"](rows, tmp_path).splitlines()[2:]
    assert [line.split(" | ")[3:6] for line in lines] == [
        ["300 x 16", "2", "70.0 ± 14.1 / 70.0 ± 14.1"],
        ["600 x 16", "1", "90.0 / 90.0"],
    ]


def test_joint_stands_beside_single(tmp_path: Path) -> None:
    joint = joint_rows((0.9, 0.6, 0.9, 0.7), model="Dcam")
    single = [row for data in DATA for row in metrics_of(0.8, 0.7, model="Dcam", data=data)]
    longer = [dataclasses.replace(row, value=0, run_id=row.run_id.replace("n300", "n600")) for row in single]
    start = "| Dcam, default | quick-start |"
    lines = TABLES["joint"](joint + longer + single, tmp_path).splitlines()[2:]
    together = "90.0 / 90.0 | 60.0 / 60.0 | 90.0 / 90.0 | 80.0 / 80.0 | 70.0 / 70.0 | 77.5 / 77.5"
    points = "+10.0 / +20.0 | -20.0 / -10.0 | +10.0 / +20.0 | +0.0 / +10.0 | -10.0 / +0.0 | -2.5 / +7.5"
    assert lines == [
        f"{start} all four | 300 x 16 | 1 | {together} |",
        f"{start} each | 300 x 16 | 1 {6 * '| 80.0 / 70.0 '}|",
        f"{start} difference |  |  | {points} |",
    ]
    assert len(TABLES["joint"](joint + single[:-2], tmp_path).splitlines()) == 5  # the single mt is missing
    assert len(TABLES["joint"](joint, tmp_path).splitlines()) == 3
    assert TABLES["joint"](single, tmp_path) == EMPTY
    assert TABLES["image"](joint, tmp_path) == EMPTY


def test_8_bits_stand_beside_their_own_runs(tmp_path: Path) -> None:
    both, alone = make_row(0.9, model="Dcam"), make_row(0.2, model="Dcam", seed=1)
    exported = dataclasses.replace(both, value=0.88, run_id=f"{both.run_id}-int8", precision="int8")
    assert TABLES["int8"]([both, alone, exported], tmp_path).splitlines()[2:] == [
        "| Dcam, default | each | 1 | 90.0 / 88.0 |  |  |"
    ]
    joint = joint_rows((0.9, 0.6, 0.9, 0.7), model="Dcam")
    exported_joint = [dataclasses.replace(row, value=row.value - 0.01, run_id=f"{row.run_id}-int8") for row in joint]
    assert TABLES["int8"](joint + exported_joint, tmp_path).splitlines()[2:] == [
        "| Dcam, default | all four | 1 | 77.5 / 76.5 |  | 77.5 / 76.5 |"
    ]
    assert "55.0" in TABLES["image"]([both, alone, exported], tmp_path)


def test_missing_categories_leave_blanks_and_no_mean(tmp_path: Path) -> None:
    line = TABLES["image"]([make_row(0.9)], tmp_path).splitlines()[2]
    assert line == "| Mkd, user | quick-start | 300 x 16 | 1 | 90.0 |  |  |  |  |"


def test_stability_compares_the_same_length_only(tmp_path: Path) -> None:
    rows = [make_row(value, variant=f"constant_step{step}") for step, value in ((250, 0.80), (300, 0.90))]
    delivered = make_row(0.95, variant="delivered")
    rows += [delivered, dataclasses.replace(delivered, value=0.1, run_id="mkd-delivered-s0-b16-n10"), make_row(0.2)]
    line = TABLES["stability"](rows, tmp_path).splitlines()[2]
    assert line == (
        "| bottle, image AUROC | quick-start | 1 | 85.0 ± 7.1 | 80.0 to 90.0 | 10.0 | 95.0 | 95.0 to 95.0 |"
    )


def test_selection_puts_the_best_first_and_test_rows_nowhere(tmp_path: Path) -> None:
    rows = [
        make_row(0.8, variant="worse", protocol="painted"),
        make_row(0.9, variant="better", protocol="painted"),
        make_row(1.0),
    ]
    lines = TABLES["selection"](rows, tmp_path).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| `better`", "| `worse`"]


def test_selection_by_hand(tmp_path: Path) -> None:
    """A joint candidate: a cell per category, the mean without the mean's own rows, seconds of the whole."""
    rows = joint_rows((0.9, 0.6, 0.9, 0.7), model="Dcam", protocol="painted6")
    pixels = [dataclasses.replace(row, metric="pixel_AUROC", value=0.5) for row in rows if row.metric == "AUPRO"]
    seconds = dataclasses.replace(rows[-1], metric="train_seconds", value=90.0)
    cells = " | ".join(f"{value} / 50.0 / {value}" for value in ("90.0", "60.0", "90.0", "70.0", "77.5"))
    assert TABLES["selection-dcam"]([*rows, *pixels, seconds], tmp_path).splitlines()[2:] == [
        f"| `default` | quick-start | all four | 300 x 16 | 1 | {cells} | 90 |"
    ]


def test_speed_by_hand(tmp_path: Path) -> None:
    values = {"latency_seconds": 0.0468, "latency_spread": 0.0021, "latency_ratio": 1.4, "megabytes": 14.9}
    rows = [
        make_row(value, model="Dcam", metric=metric, protocol="speed", precision="int8")
        for metric, value in values.items()
    ]
    assert TABLES["speed"](rows, tmp_path).splitlines()[2:] == [
        "| Dcam, default | int8 | 46.8 | 2.1 | 1.40 | 14.9 | chip |"
    ]


def test_the_price_of_width_is_that_of_one_machine(tmp_path: Path) -> None:
    speed = {"model": "Dcam", "metric": "latency_seconds", "protocol": "speed", "data": "noise"}
    rows = [
        make_row(0.0468, **speed, precision="int8", machine="other"),
        make_row(0.0094, **speed, precision="int8"),
        make_row(0.0288, **speed, precision="f32"),
        *(
            make_row(value, metric=metric, data=data, model="Dcam", variant=variant, machine=machine)
            for data in DATA
            for metric, value in {"image_AUROC": 0.9, "AUPRO": 0.8, "train_seconds": 77.0}.items()
            for variant, machine in (("default", "chip"), ("default+bf16", "other"), ("width1.0", "other"))
        ),
    ]
    rows = [dataclasses.replace(row, run_id=row.run_id.replace("n300", "nauto")) for row in rows]
    assert TABLES["price"](rows, tmp_path).splitlines()[2:] == [
        "| MixedDistillation, width 0.5, the default |  |  |  |  | 28.8 | 9.4 |",
        "| Dcam, width 0.5, the default | 90.0 / 80.0 | 77 |  |  | 28.8 | 9.4 |",
    ]


def test_short_runs_by_hand(tmp_path: Path) -> None:
    rows = [
        make_row(float(seed == 3), seed=seed, model="Dcam", metric="collapsed", protocol="short") for seed in range(10)
    ]
    assert TABLES["short_runs"](rows, tmp_path).splitlines()[2:] == [
        "| Dcam, default | quick-start | bottle | 300 x 16 | 10 | 1 |"
    ]


def test_quickstart_against_random(tmp_path: Path) -> None:
    rows = [make_row(0.95), make_row(0.75, variant="random_teacher")]
    text = TABLES["quickstart"](rows, tmp_path)
    assert "| distilled from ResNet-18 | 1 | 95.0 |" in text
    assert "| random weights | 1 | 75.0 |" in text


def test_paper_means_are_the_published_ones() -> None:
    lines = TABLES["paper"]([], ROOT / "results").splitlines()
    assert len(lines) == 2 + 15 + 1
    assert lines[-1] == "| mean | 87.74 | 90.71 |"


def test_percent() -> None:
    assert percent([0.5, 0.6]) == "55.0 ± 7.1"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_empty_without_rows(name: str, tmp_path: Path) -> None:
    assert TABLES[name]([], tmp_path) == EMPTY


def test_documents_are_updated_then_agree(tmp_path: Path) -> None:
    append_rows(tmp_path / "results" / "accuracy.csv", four_categories())
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n<!-- table:image -->\nold\n<!-- /table -->\n\nafter\n", encoding="utf-8")
    page = tmp_path / "docs" / "deep" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text("<!-- table:paper -->\n<!-- /table -->\n", encoding="utf-8")
    assert report(tmp_path, tmp_path / "results", check=True) == [readme, page]
    assert "old" in readme.read_text(encoding="utf-8")
    assert report(tmp_path, tmp_path / "results") == [readme, page]
    assert report(tmp_path, tmp_path / "results", check=True) == []
    text = readme.read_text(encoding="utf-8")
    assert "76.0" in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


def test_bad_markers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected a table among image, pixel"):
        render("<!-- table:imagee -->\n<!-- /table -->\n", [], tmp_path)
    with pytest.raises(ValueError, match="Expected 1 tables to end"):
        render("<!-- table:image -->\n", [], tmp_path)


def test_report_command_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("<!-- table:image -->\n<!-- /table -->\n", encoding="utf-8")
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
            assert render(text, rows, ROOT / "results") == text, f"run python -m benchmark report ({path})"


def test_every_table_stands_in_a_document() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in documents(ROOT))
    assert {match["name"] for match in MARKED.finditer(text)} == set(TABLES)
