"""What the READMEs say was found is written from the records, and nothing else in README is measured."""

import json
import re
from pathlib import Path

import pytest

from workbench import findings, papers
from workbench.knobs import KnobError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_findings_are_what_the_records_give():
    written = (ROOT / "data" / "reference" / "README.md").read_text(encoding="utf-8")
    assert written == findings.page(), "run: workbench figures --reference (or findings.write)"
    assert findings.with_sentences(README) == README, "run: workbench figures --reference (or findings.write)"


def typed_numbers(readme):
    """Numbers outside code, links, citations and the findings: decimals, and numbers with a unit of a measurement."""
    text = re.sub(f"{re.escape(findings.BEGIN)}.*?{re.escape(findings.END)}", "", readme, flags=re.S)
    for code in (r"```.*?```", r"^    .*$", r"`[^`]*`", r"\]\([^)]*\)", r"arXiv\s+\d{4}\.\d{5}", r"Python 3\.\d+", r"95 %"):
        text = re.sub(code, " ", text, flags=re.S if "```" in code else re.M)
    units = r"%|points?\b|times\b|nats?\b|KiB|MiB|GiB|ms\b|s\b|seconds?\b|hours?\b"
    return re.findall(rf"\d+(?:\.\d+)?\s*(?:{units})|\b\d+\.\d+\b", text)


def test_no_measured_number_is_typed_into_readme():
    assert typed_numbers(README) == []


@pytest.mark.parametrize(
    "typed", ["It is 5.8 points ahead.", "in 91 % of all cases", "12 times as fast", "takes 30 s", "a ratio of 0.75"]
)
def test_a_typed_number_is_found(typed):
    assert typed_numbers(README.replace("## How to cite", f"{typed}\n\n## How to cite"))


def test_readme_is_one_page():
    assert len(README.splitlines()) <= 120
    assert len(README.split()) <= 1500
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_method_says_what_it_worked_from():
    for method in findings.every():
        assert len(findings.of(method).worked_from) > 40
        assert findings.of(method).main in {claim.id for claim in papers.claims(method)}
        assert findings.of(method).worked_from in findings.page()
    with pytest.raises(KnobError, match="declares no findings"):
        findings.of("toy")


def test_changed_claims_are_claims_and_their_rows_say_so():
    for method in findings.every():
        changed = papers.changes(method)
        assert set(changed) <= {claim.id for claim in papers.claims(method)}
        ledger = papers.ledger(method, "reference")
        assert all(ledger.loc[name, "measured"].endswith(text) for name, text in changed.items())
    assert papers.changes("no-such-method") == {} == papers.changes("toy")


def test_findings_are_written_and_a_readme_without_marks_is_refused(tmp_path):
    (tmp_path / "data" / "reference").mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"# A\n{findings.BEGIN}\nstale text\n{findings.END}\nrest\n", encoding="utf-8")
    findings.write(tmp_path)
    assert "stale text" not in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "README.md").read_text(encoding="utf-8").endswith("rest\n")
    with pytest.raises(ValueError, match="expected the lines"):
        findings.with_sentences("# A\n")


DIRTY = {  # made before this test was written; to be computed again from a clean commit (hours each)
    "continual/paper-choice", "continual/paper-pair",
}  # fmt: skip


def test_reference_records_come_from_a_clean_commit():
    found = {
        f"{path.parent.name}/{path.stem}": json.loads(path.read_text(encoding="utf-8"))
        for path in (ROOT / "data" / "reference").glob("*/*.json")
    }
    assert len(found) > 20
    assert {name for name, about in found.items() if about["dirty"] or not about["commit"]} == DIRTY
