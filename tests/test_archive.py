"""Runs that are kept: listed, compared, deleted, and exchanged as a file in which nothing is believed."""

import json
import zipfile

import pytest
import toy

from workbench import archive, runs
from workbench.experiment import get
from workbench.runs import RunError
from workbench.ui import RunBrowser


@pytest.fixture
def three(runs_folder):
    for rate in (0.1, 0.2, 0.3):
        list(runs.stream(get("toy/walk"), toy.ToyConfig(steps=4, rate=rate)))
    return [run.id for run in archive.kept()]


def test_what_is_kept_is_listed_newest_first_with_what_differs(three):
    found = archive.kept()
    assert [run.config["rate"] for run in found] == [0.3, 0.2, 0.1]
    assert found[0].knobs == {"steps": 4, "rate": 0.3}
    assert found[0].records == 4
    assert found[0].last == {"step": 3, "value": pytest.approx(found[0].last["value"])}
    assert archive.differing(found) == ["rate"]
    table = archive.table(found)
    assert list(table["rate"]) == [0.3, 0.2, 0.1]
    assert table.loc[three[0], "run_bytes"] > 100
    assert archive.config_of(found[0]) == toy.ToyConfig(steps=4, rate=0.3)


def test_fits_unfinished_runs_and_rubbish_are_not_listed(three, runs_folder):
    stream = runs.stream(get("toy/walk"), toy.ToyConfig(steps=9))
    next(stream)
    stream.close()
    (runs_folder / "rubbish").mkdir()
    (runs_folder / "rubbish" / "run.json").write_text("{")
    list(runs.stream(get("toy/walk"), toy.ToyConfig(steps=5), runs_folder / "fits"))
    assert [run.id for run in archive.kept()] == three


def test_deleting_takes_what_is_named_and_nothing_where_a_name_is_wrong(three, runs_folder):
    with pytest.raises(RunError, match="no run 'nobody'"):
        archive.delete([three[0], "nobody"])
    with pytest.raises(RunError, match="no run"):
        archive.delete(["../outside"])
    assert len(archive.kept()) == 3
    archive.delete(three[:2])
    assert [run.id for run in archive.kept()] == three[2:]
    assert not (runs_folder / three[0]).exists()


def test_a_bundle_goes_out_and_comes_in(three, tmp_path, runs_folder):
    (runs_folder / three[0] / "artefacts").mkdir()
    (runs_folder / three[0] / "artefacts" / "weights.bin").write_bytes(b"12")
    bundle = archive.export(three[:2], tmp_path / "class.zip")
    other = tmp_path / "other"
    assert sorted(archive.bring(bundle, other)) == sorted(three[:2])
    assert archive.bring(bundle, other) == [], "what is there already is left as it is"
    for name in three[:2]:
        assert runs.load(other / name) == runs.load(runs_folder / name)
    assert (other / three[0] / "artefacts" / "weights.bin").read_bytes() == b"12"
    assert runs.find(get("toy/walk"), toy.ToyConfig(steps=4, rate=0.3), other), "and counts as run"
    with pytest.raises(RunError, match="no run to export"):
        archive.export([], tmp_path / "none.zip")


def altered(bundle, out, change):
    """The bundle with its files changed by ``change(files, manifest)``."""
    with zipfile.ZipFile(bundle) as old:
        files = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    change(files, manifest)
    with zipfile.ZipFile(out, "w") as new:
        for name, data in files.items():
            new.writestr(name, data)
        new.writestr("manifest.json", json.dumps(manifest))
    return out


def swap(files, manifest, inside, data):
    import hashlib

    files[inside] = data
    manifest["files"][inside] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def records_changed(files, manifest):
    name = next(n for n in files if n.endswith("records.jsonl"))
    files[name] = files[name].replace(b"0", b"1")


def records_and_sum_changed(files, manifest):
    name = next(n for n in files if n.endswith("records.jsonl"))
    swap(files, manifest, name, files[name].replace(b"0", b"1"))


def config_changed(files, manifest):
    name = next(n for n in files if n.endswith("run.json"))
    about = json.loads(files[name])
    about["config"]["rate"] = 0.9
    swap(files, manifest, name, json.dumps(about).encode())


def file_added(files, manifest):
    files["extra.txt"] = b"x"


def file_outside(files, manifest):
    swap(files, manifest, "../../evil/run.json", b"{}")


def hidden_folder(files, manifest):
    swap(files, manifest, ".ssh/run.json", b"{}")


def checkpoint(files, manifest):
    name = next(n for n in files if n.endswith("run.json")).partition("/")[0]
    swap(files, manifest, f"{name}/checkpoint.pt", b"pickle")


def records_missing(files, manifest):
    name = next(n for n in files if n.endswith("records.jsonl"))
    del files[name], manifest["files"][name]


def other_format(files, manifest):
    manifest["format"] = "something else"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (records_changed, "does not match its checksum"),
        (records_and_sum_changed, "records of .* do not match their checksum"),
        (config_changed, "has the config of"),
        (file_added, "not those of its manifest"),
        (file_outside, "expected RUN/run.json"),
        (hidden_folder, "expected RUN/run.json"),
        (checkpoint, "expected RUN/run.json"),
        (records_missing, "lacks run.json or records.jsonl"),
        (other_format, "has the format 'something else'"),
    ],
)
def test_an_altered_bundle_is_refused_whole(three, tmp_path, change, reason):
    bundle = altered(archive.export(three, tmp_path / "a.zip"), tmp_path / "b.zip", change)
    with pytest.raises(RunError, match=reason):
        archive.bring(bundle, tmp_path / "other")
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").iterdir())
    assert not (tmp_path / "evil").exists()


def test_what_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"not a zip file")
    with pytest.raises(RunError, match="is not a bundle of runs"):
        archive.bring(tmp_path / "a.zip")
    with pytest.raises(RunError, match="is not a bundle of runs"):
        archive.bring(tmp_path / "absent.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.writestr("hello.txt", "hello")
    with pytest.raises(RunError, match="is not a bundle of runs"):
        archive.bring(tmp_path / "b.zip")


# -- the browser of runs, without a browser ----------------------------------------------------------------------------


def test_the_browser_lists_opens_compares_and_deletes(three):
    browser = RunBrowser()
    assert {row["experiment"] for row in browser.table.view["rows"]} == {"toy/walk"}
    browser.show("toy/walk")
    view = browser.table.view
    assert view["columns"][:1] == ["rate"]
    assert view["numbers"] == ["step", "value"]
    assert [row["rate"] for row in view["rows"]] == [0.3, 0.2, 0.1]
    panel = browser.open_run(three[:2])
    assert panel.config.rate == 0.3
    assert len(panel.pinned) == 1
    assert browser.children[1] is panel
    browser.compare(three, "value", "rate")
    assert browser.table.view["svg"].startswith("<svg")
    assert "value of 3 runs along rate" in browser.table.view["message"]
    browser.delete(three[:1])
    assert len(browser.table.view["rows"]) == 2
    json.dumps(browser.table.view)


def test_the_browser_says_what_goes_wrong(three):
    browser = RunBrowser()
    browser._told({"do": "open", "ids": []}, [])
    assert "no run is chosen" in browser.table.view["message"]
    browser._told({"do": "bring", "file": "x.zip"}, [b"rubbish"])
    assert "not a bundle" in browser.table.view["message"]
    browser._told({"do": "delete", "ids": ["nobody"]}, [])
    assert "no run 'nobody'" in browser.table.view["message"]
    browser._told({"do": "show", "experiment": "no/such"}, [])
    assert len(browser.table.view["rows"]) == 3


def test_a_bundle_goes_through_the_browser(three, runs_folder):
    browser = RunBrowser()
    path = browser.export(three)
    archive.delete(three)
    assert sorted(browser.bring("class.zip", path.read_bytes())) == sorted(three)
    assert "3 runs taken in" in browser.table.view["message"]


def test_an_empty_folder_has_an_empty_browser(runs_folder):
    assert RunBrowser().table.view["rows"] == []
