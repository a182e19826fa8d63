"""The record of speed: tables written from entries, replaced and kept entries, verdicts, and errors on a damaged file."""

import ast
import json
import re
from pathlib import Path

import pytest
from bench import report
from bench.report import COMMITTED, Entry, Report, load, save, tables

BENCH = Path(__file__).parent / "bench"


@pytest.fixture
def path(tmp_path, monkeypatch):
    path = tmp_path / "speed.json"
    monkeypatch.setenv("WORKBENCH_SPEED", str(path))
    return path


def entry(**more):
    return Entry(**{"method": "synapse", "what": "A / B", "processor": "one", "threads": 1, "value": 0.5, **more})


def test_the_committed_tables_are_what_the_committed_entries_give(path):
    entries = load(COMMITTED)
    assert len(entries) >= 80
    save(path, reversed(entries))
    assert path.read_bytes() == COMMITTED.read_bytes()
    assert path.with_suffix(".md").read_bytes() == COMMITTED.with_suffix(".md").read_bytes()


def test_the_independent_run_is_shown_next_to_the_first_one():
    found = {e.processor: e.value for e in load(COMMITTED) if "one device, reference, batch 1:" in e.what}
    assert sorted(found.values()) == [5.2, 12.0]


def patterns(path):
    """Regular expressions of the rows that a benchmark records: each field of an f-string may be any text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "report.row":
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)


def test_the_benchmarks_still_record_the_rows_that_are_kept():
    """A row that is renamed in a benchmark would leave its old entries behind."""
    for method in set(report.TABLES) - {"browser"}:
        known = list(patterns(BENCH / f"bench_{method}.py"))
        assert known
        for kept in (e.what for e in load(COMMITTED) if e.method == method):
            assert any(re.fullmatch(pattern, kept) for pattern in known), kept


def test_a_new_run_replaces_the_entry_of_its_processor_and_keeps_the_others(path, monkeypatch):
    save(path, [entry(), entry(processor="two"), entry(threads=2), entry(what="C / D")])
    monkeypatch.setattr(report, "processor", lambda: "one")
    Report("synapse").row("A / B", 0.7, goal="at most 0.6", threads=1, if_missed="B is fast", versions={"peer": "1.0"})
    found = {e.key: e for e in load(path)}
    assert {key[1:]: e.value for key, e in found.items()} == {
        ("A / B", "one", 1): 0.7,
        ("A / B", "two", 1): 0.5,
        ("A / B", "one", 2): 0.5,
        ("C / D", "one", 1): 0.5,
    }
    new = found["synapse", "A / B", "one", 1]
    assert set(new.versions) == {"torch", "peer"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", new.date)
    assert "| A / B | at most 0.6 | one | 1 | 0.7 | missed: B is fast |" in path.with_suffix(".md").read_text()
    Report("synapse").row("A / B", 0.55, goal="at most 0.6", threads=1, if_missed="B is fast")
    assert "| A / B | at most 0.6 | one | 1 | 0.55 | met |" in path.with_suffix(".md").read_text()


def test_a_first_run_writes_both_files(path):
    Report("quantization").row("solver", "0.30 s", memory="6.0 n x n matrices")
    (only,) = load(path)
    assert only.processor == report.processor() != ""
    assert "0.30 s | 6.0 n x n matrices |" in path.with_suffix(".md").read_text()


def test_rows_are_sorted_by_their_numbers():
    text = tables([entry(what=f"n = {n}") for n in ("2,048", "512", "1024")])
    assert re.findall(r"n = ([\d,]+)", text) == ["512", "1024", "2,048"]


@pytest.mark.parametrize(("value", "goal", "verdict"), [
    (0.6, "at most 0.6", "met"), (0.61, "at most 0.6", "missed"), ("0.62 to 0.66", "at most 0.65", "met in part"),
    (12.0, "at least 2", "met"), (1.9, "at least 2", "missed"), ("4 MiB", "less than 4 MiB", "missed"),
    ("1,200 ms", "at most 1,000 ms", "missed"), (1.0, "level", ""), (1.0, "", ""), ("fast", "at most 1", ""),
])  # fmt: skip
def test_verdicts(value, goal, verdict):
    assert entry(value=value, goal=goal).verdict == verdict


def test_the_name_of_the_processor_is_the_one_that_the_system_reports(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\n")
    monkeypatch.setattr(report, "CPUINFO", info)
    assert report.processor() == "Some CPU @ 2 GHz"
    info.unlink()
    monkeypatch.setattr(report.platform, "processor", lambda: "arm")
    assert report.processor() == "arm"


GOOD = {"method": "synapse", "what": "A / B", "processor": "one", "threads": 1, "value": 0.5}


@pytest.mark.parametrize(("text", "message"), [
    ('[{"method": "syn', "the file: Invalid JSON"),
    ("{}", "the file: Input should be a valid array"),
    (json.dumps([GOOD, {**GOOD, "threads": 0}]), "1.threads: Input should be greater than"),
    (json.dumps([{**GOOD, "speed": 1}]), "0.speed: Extra inputs are not permitted"),
    (json.dumps([{**GOOD, "method": "cooking"}]), "0.method: Value error, 'cooking' has no table"),
    (json.dumps([{**GOOD, "what": "A | B"}]), "0.what: Value error, must be one line"),
    (json.dumps([{**GOOD, "value": None}]), "neither a value nor a peak memory"),
    (json.dumps([GOOD, GOOD]), "two entries of"),
])  # fmt: skip
def test_a_damaged_file_is_reported_before_anything_is_measured(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=r"speed\.json is damaged: ") as error:
        Report("synapse")
    assert message in str(error.value)
    assert "Restore it" in str(error.value)
    assert path.read_text() == text
