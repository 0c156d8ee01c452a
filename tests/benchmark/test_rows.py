# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Rows reach a file whole, are read back equal, and are never measured twice."""

from __future__ import annotations

import dataclasses
import multiprocessing
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anomalib_mkd.compare import rows as compare
from benchmark import rows
from benchmark.rows import COLUMNS, Row, append_rows, has_run, read_folder, read_rows

ROW = Row(
    run_id="mkd-default-user-quickstart-mvtec_bottle-s0",
    model="Mkd",
    variant="default",
    data="mvtec/bottle",
    category="bottle",
    subset="all",
    seed=0,
    batch=16,
    steps=300,
    metric="image_AUROC",
    value=0.9875,
    epochs=1.5,
    image_size=128,
    precision="f32",
    weights="quickstart",
    protocol="user",
    machine='a "quoted", name; 2 cores',
    versions="python=3.11",
    commit="0123456789",
)


def test_columns_are_those_of_the_convention() -> None:
    assert ",".join(COLUMNS) == (
        "run_id,model,variant,data,category,subset,seed,batch,steps,metric,value,epochs,image_size,precision,weights,"
        "protocol,machine,versions,commit"
    )


def test_rows_come_back_equal(tmp_path: Path) -> None:
    file = tmp_path / "new" / "accuracy.csv"
    other = dataclasses.replace(ROW, run_id="other", seed=1, value=0.5)
    append_rows(file, [ROW])
    append_rows(file, [other])
    assert read_rows(file) == [ROW, other]
    assert has_run(file, other.key)
    assert not has_run(tmp_path / "none.csv", other.key)
    assert [path.name for path in file.parent.iterdir()] == ["accuracy.csv"]


@pytest.mark.parametrize("change", [{"run_id": "oth"}, {"batch": 8}, {"steps": 600}, {"precision": "int8"}])
def test_a_run_of_another_name_length_or_kind_is_another_one(tmp_path: Path, change: dict[str, Any]) -> None:
    append_rows(tmp_path / "a.csv", [ROW])
    assert has_run(tmp_path / "a.csv", dataclasses.replace(ROW, precision="bf16-train").key)
    assert not has_run(tmp_path / "a.csv", dataclasses.replace(ROW, **change).key)


def test_failed_append_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "accuracy.csv"
    append_rows(file, [ROW])
    before = file.read_bytes()

    def fail(unfinished: Path, _: Path) -> None:
        raise OSError(unfinished.name)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match=r"accuracy\.csv"):
        append_rows(file, [ROW])
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def _append(file: Path, number: int) -> None:
    append_rows(file, [dataclasses.replace(ROW, run_id=f"run{number}", seed=index) for index in range(3)])


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "accuracy.csv"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(file, number)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted({row.run_id for row in read_rows(file)}) == [f"run{number}" for number in range(6)]
    assert len(read_rows(file)) == 18


def test_other_header_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "accuracy.csv"
    file.write_text("run_id,value\nx,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Expected the columns run_id,model"):
        append_rows(file, [ROW])
    assert file.read_text(encoding="utf-8") == "run_id,value\nx,1\n"


@pytest.mark.parametrize(("line", "message"), [("a,b", "got 2"), (",".join(["x"] * 19), "Expected numbers")])
def test_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "accuracy.csv"
    file.write_text(",".join(COLUMNS) + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_rows(file)


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected CSV files in the folder"):
        read_folder(tmp_path)
    other = dataclasses.replace(ROW, seed=1, run_id="other")
    append_rows(tmp_path / "a.csv", [ROW])
    append_rows(tmp_path / "b.csv", [other])
    assert read_folder(tmp_path) == [ROW, other]
    append_rows(tmp_path / "c.csv", [dataclasses.replace(ROW, value=0.1)])
    with pytest.raises(ValueError, match="Expected each measurement once"):
        read_folder(tmp_path)


def test_comparisons_have_shares_instead_of_counts(tmp_path: Path) -> None:
    append_rows(tmp_path / "a.csv", [ROW])
    found = [
        compare.Row("Fast", pictures=40, steps=300, training_seconds=9.5, caught=3, bad=4, false_alarms=0, good=5),
        compare.Row("Broken", reason="It broke."),
    ]
    (tmp_path / "comparisons" / "nut").mkdir(parents=True)
    (tmp_path / "comparisons" / "nut" / "compare.csv").write_text(compare.table_csv(found), encoding="utf-8")
    first, *others = read_folder(tmp_path)
    assert first == ROW
    assert {(row.protocol, row.model, row.category, row.steps) for row in others} == {("compare", "Fast", "nut", 300)}
    values = {row.metric: row.value for row in others}
    assert values == {"pictures": 40, "training_seconds": 9.5, "caught": 0.75, "false_alarms": 0}


def test_rows_can_replace_those_of_a_file(tmp_path: Path) -> None:
    append_rows(tmp_path / "a.csv", [ROW])
    other = dataclasses.replace(ROW, value=0.5)
    append_rows(tmp_path / "a.csv", [other], anew=True)
    assert read_rows(tmp_path / "a.csv") == [other]


def test_versions_name_the_host() -> None:
    assert "anomalib=2." in rows.versions()
    assert rows.versions().startswith("python=3.")


def test_commit_shows_changes_of_code_alone(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)  # noqa: S603

    package = tmp_path / "src"
    package.mkdir()
    assert rows.commit(tmp_path / "none") == "unknown"
    git("init")
    (package / "code.py").write_text("x = 1\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "x")
    clean = rows.commit(tmp_path)
    assert len(clean) == 10
    (tmp_path / "results.csv").write_text("x\n", encoding="utf-8")
    assert rows.commit(tmp_path) == clean
    (package / "code.py").write_text("x = 2\n", encoding="utf-8")
    assert rows.commit(tmp_path) == f"{clean}-dirty"
