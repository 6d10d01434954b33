"""The table of a run: what is written is read, and a resumed run goes on without a gap and without a double."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.errors import ModelError
from lumbarseg.training.history import History
from lumbarseg.training.run_result import RunResult, ValidationScores


def table(rows: dict[int, dict[str, float]]) -> History:
    history = History()
    for step, values in rows.items():
        history.add(step, values)
    return history


VALUES = st.dictionaries(
    st.sampled_from(["loss", "rate", "score", "L1", "L4-L5"]), st.floats(0, 1).map(lambda v: round(v, 4)), min_size=1
)
ROWS = st.dictionaries(st.integers(1, 10**7), VALUES, max_size=6).map(lambda rows: dict(sorted(rows.items())))


@given(ROWS, st.integers(0, 10**7))
def test_what_is_written_is_read_up_to_a_step(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, dict[str, float]], step: int
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.csv"
    table(rows).write(path)
    assert History.read(path).rows == table(rows).rows
    assert [row["step"] for row in History.read(path, step).rows] == [s for s in rows if s <= step]


def test_values_of_one_step_are_one_row() -> None:
    history = table({20: {"loss": 0.5}})
    history.add(20, {"score": 0.8, "mixed": 0, "L4": 0.9, "L1": 0.7, "L1-L2": 0.6})
    history.add(40, {"loss": 0.4})
    assert len(history.rows) == 2
    assert history.structure_names() == ["L1", "L4", "L1-L2"]
    (scores,) = history.validations()
    assert scores == ValidationScores(20, score=0.8, dice={"L4": 0.9, "L1": 0.7, "L1-L2": 0.6})
    history.add_validation(replace(scores, step=60, mixed=2))
    assert history.validations() == [scores, replace(scores, step=60, mixed=2)]


@pytest.mark.parametrize("text", ["step,loss\n1,x\n", "step,loss\n1,2,3\n", "loss\n1\n"])
def test_another_table_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ModelError, match=r"history\.csv: line 2 is no row of a run's history"):
        History.read(tmp_path / "history.csv")


def test_a_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not found; give the folder of a run"):
        RunResult.read(tmp_path)
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(ModelError, match="has no 'targets'"):
        RunResult.read(tmp_path)
