"""Arrays and tables of other people: sorted, headless, in another order, with ids for labels: handled and told, or refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workbench.continual import fit
from workbench.continual.own import grouped, set_aside
from workbench.continual.streams import own, read_csv


def blobs(classes, each, seed=0, order="sorted"):
    """Samples of some classes, in the order of their classes or mixed."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat_interleave(each)
    if order == "mixed":
        y = y[torch.randperm(len(y), generator=g)]
    centre = torch.randn(classes, 6, generator=torch.Generator().manual_seed(9)) * 3
    return centre[y] + torch.randn(len(y), 6, generator=g), y


# -- arrays --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "each"), [(3, 50), (8, 20), (2, 300), (10, 6)])
def test_sorted_samples_leave_each_class_in_each_part(classes, each):
    x, y = blobs(classes, each)
    stream = own([(x, y, x, y)])
    (task,) = stream.tasks
    assert len(task.y_train.unique()) == len(task.y_validation.unique()) == classes
    assert "task 0: samples are grouped by class, so one in 6 samples of each class is set aside for validation" in stream.note
    both = torch.cat([task.x_train, task.x_validation])
    assert torch.equal(both[both[:, 0].argsort()], x[x[:, 0].argsort()]), "no sample is lost or twice"
    found = fit(stream, "sgd", lr=0.05, passes=8, hidden=(32,), watch=0)
    assert found.validation > 0.8
    assert "grouped by class" in found.note


def test_mixed_samples_are_split_as_they_stand():
    x, y = blobs(3, 50, order="mixed")
    stream = own([(x, y, x, y)])
    assert stream.note == ""
    assert torch.equal(stream.tasks[0].x_validation, x[125:])
    assert torch.equal(stream.tasks[0].x_test, x)


def test_a_class_that_the_last_samples_lack_is_told():
    """Mixed, but for one class that stands in front."""
    x, y = blobs(3, 40, order="mixed")
    front = torch.cat([torch.where(y == 2)[0], torch.where(y != 2)[0]])
    stream = own([(x[front], y[front], x, y)])
    assert "one part would lack class 2, so one in 6 samples of each class" in stream.note
    assert len(stream.tasks[0].y_validation.unique()) == 3


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.sampled_from([2, 5, 6]))
def test_whatever_the_labels_each_row_is_in_one_part_and_common_classes_in_both(labels, share):
    y = torch.tensor(labels)
    kept, aside, note = set_aside(y, share)
    assert sorted([*kept.tolist(), *aside.tolist()]) == list(range(len(y)))
    for c in y.unique():
        if (y == c).sum() >= share and len(aside):
            assert (y[aside] == c).any()
            assert (y[kept] == c).any()
    if not note:
        assert torch.equal(torch.cat([kept, aside]), torch.arange(len(y)))


def test_a_random_order_is_not_taken_for_groups():
    g = torch.Generator().manual_seed(0)
    assert not any(grouped(torch.randint(0, 5, (100,), generator=g)) for _ in range(300))
    assert grouped(torch.arange(10).repeat_interleave(10))
    assert grouped(torch.cat([torch.arange(5).repeat_interleave(4)] * 2))


def test_what_is_looked_at_on_the_way_is_not_one_class_alone():
    """Watched moments take the first thousand test samples."""
    x, y = blobs(3, 700)
    task = own([(x, y, x, y)]).tasks[0]
    assert len(task.y_test[:1000].unique()) == 3
    assert len(task.y_train[:1000].unique()) == 3, "and EWC's Fisher the first thousand to train on"


def test_labels_that_are_no_classes_are_refused_and_not_given_an_output_each():
    x, y = blobs(2, 20, order="mixed")
    for odd in (y * 10**9, y + 10**6, torch.arange(40) * 977):
        with pytest.raises(
            ValueError,
            match=r"label \d+: the model would need [\d,]+ outputs for \d+ different labels.* Expected classes 0, 1, 2",
        ):
            own([(x, odd, x, odd)])
    assert own([(x, y * 500, x, y * 500)]).outputs == 501, "gaps are allowed where they cost little"
    for odd in (float("inf"), float("nan")):
        bad = y.double()
        bad[3] = odd
        with pytest.raises(ValueError, match="some labels are not whole numbers"):
            own([(x, bad, x, y)])


def test_a_class_of_the_test_part_alone_is_told():
    x, y = blobs(3, 20, order="mixed")
    stream = own([(x[y < 2], y[y < 2], x, y)])
    assert "task 0: the test set has samples of class 2, but the training set does not" in stream.note


@pytest.mark.parametrize("what", ["text", "frame", "ragged", "none"])
def test_what_holds_no_numbers_is_refused_and_a_frame_is_an_array(what):
    x, y = blobs(2, 20, order="mixed")
    given = {"text": np.array([["a"] * 6] * 40), "ragged": [[1.0], [1.0, 2.0]], "none": None, "frame": pd.DataFrame(x.numpy())}[
        what
    ]
    if what == "frame":
        assert torch.equal(own([(given, pd.Series(y.numpy()), x, y)]).tasks[0].x_train, x[:34])
    else:
        with pytest.raises(ValueError, match="task 0, x_train: "):
            own([(given, y, x, y)])


# -- a last batch of one ---------------------------------------------------------------------------------------------------------


def normed(images=False):
    torch.manual_seed(0)
    if images:
        return nn.Sequential(nn.Unflatten(1, (1, 6)), nn.BatchNorm1d(1), nn.Flatten(), nn.Linear(6, 2))
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def pair(n):
    x, y = blobs(2, n, order="mixed")
    return x[:n], y[:n], x[:9], y[:9]


@pytest.mark.parametrize("method", ["sgd", "ewc", "lwf", "replay", "a-gem", "classp", "cumulative"])
def test_a_rest_of_one_sample_is_refused_before_the_first_step(method):
    model = normed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # 97 of 116 are trained on: three batches of 32, and one
    with pytest.raises(ValueError, match=r"batch=32: a pass over 97 samples ends with a batch of one sample, .*such as 33"):
        fit([pair(116), pair(116)], method, model=model, lr=0.01, watch=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    found = fit([pair(116), pair(116)], method, model=model, lr=0.01, watch=0, batch=33)
    assert found.matrix.isfinite().all()


def test_other_ways_to_a_batch_of_one():
    with pytest.raises(ValueError, match=r"batch=1: .*choose another batch size, such as 5"):
        fit([pair(30)], "sgd", model=normed(), batch=1, watch=0)
    with pytest.raises(ValueError, match="memory=1: batches from the buffer have one sample"):
        fit([pair(30), pair(30)], "replay", model=normed(), batch=5, memory=1, watch=0)
    # 25 + 24 of both together: batches of 12 leave one over
    with pytest.raises(ValueError, match="batch=12: a pass over 49 samples ends with a batch of one sample"):
        fit([pair(30), pair(28)], "joint", model=normed(), batch=12, watch=0)


def test_models_that_train_on_one_sample_do():
    for model in (normed(images=True), nn.Linear(6, 2), nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 2))):
        assert fit([pair(116)], "sgd", model=model, lr=0.01, watch=0).matrix.isfinite().all()


def test_the_question_changes_neither_the_model_nor_the_random_numbers():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    state = torch.get_rng_state()
    fit([pair(116)], "sgd", model=model, lr=0.01, watch=0)
    assert torch.equal(torch.get_rng_state(), state)


# -- tables ----------------------------------------------------------------------------------------------------------------------

ROWS = [[i, 2 * i % 7, (3 * i) % 5, i % 4, i % 2] for i in range(40)]


def folder(path, **files):
    for name, (head, rows) in files.items():
        lines = [head] * bool(head) + [",".join(map(str, row)) for row in rows]
        (path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return path


def first(row):
    return row[-1:] + row[:-1]


@pytest.mark.parametrize("name", ["label", "Label", " LABEL ", "class", "Target", "labels", "y"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_the_label_is_found_by_its_name(tmp_path, name, place):
    rows = [first(r) for r in ROWS] if place == "first" else ROWS
    head = f"{name},a,b,c,d" if place == "first" else f"a,b,c,d,{name}"
    stream = read_csv(folder(tmp_path, a=(head, rows)))
    assert stream.outputs == 2
    assert stream.note == ""
    assert stream.tasks[0].x_train[3].tolist() == [3.0, 6.0, 4.0, 3.0]
    assert stream.tasks[0].y_train[3] == 1


def test_what_is_taken_for_granted_is_told(tmp_path):
    for number, (head, rows, said) in enumerate(
        [
            ("", ROWS, "a.csv has no header; its last column is used as the label"),
            ("a,b,c,d,kind", ROWS, "no column called label; its last column, 'kind', is used as the label"),
            (",a,b,c,d,label", [[k, *r] for k, r in enumerate(ROWS)], "contains row numbers, so it is ignored"),
        ]
    ):
        path = tmp_path / str(number)
        path.mkdir()
        stream = read_csv(folder(path, a=(head, rows)))
        assert said in stream.note
        (task,) = stream.tasks
        assert task.x_train.shape[1] == 4
        assert len(task.x_train) + len(task.x_validation) + len(task.x_test) == 40
        assert said in fit(stream, "sgd", lr=0.01, hidden=(4,), batch=8, watch=0).note


def test_pandas_own_header_of_numbers_is_a_header(tmp_path):
    pd.DataFrame(ROWS).to_csv(tmp_path / "a.csv", index=False)
    stream = read_csv(tmp_path)
    assert sum(len(x) for x in stream.tasks[0][1:7:2]) == 40
    assert "'4', is used as the label" in stream.note


def test_files_come_in_the_order_of_their_numbers(tmp_path):
    head = "a,b,c,d,label"
    stream = read_csv(folder(tmp_path, **{f"task{n}": (head, ROWS) for n in (10, 2, 1, 33)}))
    assert [t.name for t in stream.tasks] == ["task1", "task2", "task10", "task33"]


def test_columns_of_another_order_are_put_right_and_other_columns_refused(tmp_path):
    swapped = [[r[1], r[0], r[4], r[3], r[2]] for r in ROWS]
    stream = read_csv(folder(tmp_path, a=("a,b,c,d,label", ROWS), b=("b,a,label,d,c", swapped)))
    assert torch.equal(stream.tasks[0].x_train, stream.tasks[1].x_train)
    assert "b.csv: the columns are reordered to match a.csv" in stream.note
    folder(tmp_path, b=("b,a,label,d,e", swapped))
    with pytest.raises(ValueError, match=r"b\.csv: the file has no column 'c'; expected the columns of a\.csv: a, b, c, d"):
        read_csv(tmp_path)
    folder(tmp_path, b=("a,b,c,d,e,label", [[*r, r[-1]] for r in ROWS]))
    with pytest.raises(ValueError, match=r"b\.csv: the file has an additional column 'e'"):
        read_csv(tmp_path)
    folder(tmp_path, b=("", [r[1:] for r in ROWS]))
    with pytest.raises(ValueError, match="the file has 3 feature columns; expected 4"):
        read_csv(tmp_path)


@pytest.mark.parametrize("names", [("a", "a_test"), ("a_train", "a_test"), ("A-Train", "A-TEST"), ("a.train", "a.test")])
def test_a_test_file_is_the_test_part_of_its_task(tmp_path, names):
    head = "a,b,c,d,label"
    stream = read_csv(folder(tmp_path, **{names[0]: (head, ROWS), names[1]: (head, ROWS[:7]), "b": (head, ROWS)}))
    assert [len(t.x_test) for t in sorted(stream.tasks, key=lambda t: t.name.lower())] == [7, 8]
    assert len(stream.tasks) == 2


def test_parts_that_belong_nowhere_are_refused(tmp_path):
    head = "a,b,c,d,label"
    for files, said in (
        (("a", "b_test"), r"b_test\.csv: the test file has no training file; expected b\.csv or b_train\.csv"),
        (("a", "a_val"), r"a_val\.csv: the file name ends in val; .*are taken from the training file"),
        (("a", "a_train"), "is also a train file of the task 'a'"),
    ):
        path = tmp_path / files[1]
        path.mkdir()
        with pytest.raises(ValueError, match=said):
            read_csv(folder(path, **dict.fromkeys(files, (head, ROWS))))


def test_sorted_rows_are_tested_in_each_class(tmp_path):
    rows = sorted(([*r[:-1], i % 4] for i, r in enumerate(ROWS)), key=lambda r: r[-1])
    stream = read_csv(folder(tmp_path, a=("a,b,c,d,label", rows)))
    (task,) = stream.tasks
    for part in (task.y_train, task.y_validation, task.y_test):
        assert part.unique().tolist() == [0, 1, 2, 3]
    assert "a: samples are grouped by class, so one in 5 samples of each class is set aside for testing" in stream.note


def changed(at, column, value):
    rows = [list(r) for r in ROWS]
    rows[at][column] = value
    return rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a;b;label\n1,5;2,3;0\n", "cells are separated by ';'; expected cells separated by commas"),
        ("a\tb\tlabel\n1\t2\t0\n", r"cells are separated by '\\t'"),
        ("Instrument 7\na,b,label\n1,2,0\n", "its first line is 'Instrument 7'"),
        ("", "its first line is ''"),
        ("a,b,label\n1,2,0,7\n1,2,0,7\n", "expected the same number of cells in each row"),
        ("a,b,label\n1,2,0\n1,2\n", r"row 3, column 'label': the cell is empty"),
        ("a,b,label\n1,,0\n1,2,0\n", "row 2, column 'b': the cell is empty"),
        ("a,b,label\n1,2,0\n\n1,x,0\n", "row 4, column 'b': 'x' is not a finite number"),
        ("a,b,label\n1,inf,0\n", "row 2, column 'b': 'inf' is not a finite number"),
        ("a,b,label\n1,2,cat\n", "row 2, column 'label': 'cat' is not a finite number"),
        ("a,b,label\n1,2,0.5\n1,2,1\n", "row 2, column 'label': the label is 0.5; expected a class number"),
        ("a,b,c\n1,2,0.5\n1,2,1\n", "Rename the column that holds the labels to 'label'"),
        ("a,label,class\n1,2,0\n", "'label' and 'class' could both be the label; .* a feature must not contain the label"),
        ("a,label,Label\n1,2,0\n", "could both be the label"),
        ("a,a,label\n1,2,0\n", "2 columns are called 'a'"),
        ("a,,label\n1,2,0\n", "column 2 has no name"),
        ("label\n0\n", "its first line is 'label'"),
    ],
)
def test_tables_that_are_none_are_refused_by_file_row_and_column(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.csv: .*{said}"):
        read_csv(tmp_path)


def test_an_id_in_the_last_column_is_no_label(tmp_path):
    rows = [[*r[:-1], k] for k, r in enumerate(ROWS)]
    with pytest.raises(
        ValueError, match="the last column, 'id', has 40 different values in 40 rows; expected the labels of a few classes"
    ):
        read_csv(folder(tmp_path, a=("a,b,c,d,id", rows)))
    rows = [[*r[:-1], 10**9 + k % 3] for k, r in enumerate(ROWS)]
    with pytest.raises(ValueError, match=r"label 1000000002: .* for 3 different labels.*for example, ids"):
        read_csv(folder(tmp_path, a=("a,b,c,d,label", rows)))


def test_latin_bytes_and_a_mark_at_the_start(tmp_path):
    (tmp_path / "a.csv").write_bytes("größe,b,label\n1,2,0\n".encode("latin-1"))
    with pytest.raises(ValueError, match="expected a CSV file encoded as UTF-8"):
        read_csv(tmp_path)
    text = "\r\n".join(["label,b", *(f"{k % 2},{k}" for k in range(20))])
    (tmp_path / "a.csv").write_bytes(text.encode("utf-8-sig"))
    assert read_csv(tmp_path).outputs == 2
