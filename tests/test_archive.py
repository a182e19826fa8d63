"""Runs that are kept: listed, compared, deleted, and exchanged as a file in which nothing is believed."""

import hashlib
import json
import tracemalloc
import zipfile

import pytest
import toy

from workbench import archive, bundles, runs
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
    bundle = bundles.export(three[:2], tmp_path / "class.zip")
    other = tmp_path / "other"
    assert sorted(bundles.bring(bundle, other)) == sorted(three[:2])
    assert bundles.bring(bundle, other) == [], "what is there already is left as it is"
    for name in three[:2]:
        assert runs.load(other / name) == runs.load(runs_folder / name)
    assert (other / three[0] / "artefacts" / "weights.bin").read_bytes() == b"12"
    assert runs.find(get("toy/walk"), toy.ToyConfig(steps=4, rate=0.3), other), "and counts as run"
    with pytest.raises(RunError, match="no runs to export"):
        bundles.export([], tmp_path / "none.zip")


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
        (config_changed, "has the config of another run"),
        (file_added, r"differ from those listed in manifest\.json"),
        (file_outside, "expected RUN/run.json"),
        (hidden_folder, "expected RUN/run.json"),
        (checkpoint, "expected RUN/run.json"),
        (records_missing, "has no records.jsonl"),
        (other_format, "has the format 'something else'"),
    ],
)
def test_an_altered_bundle_is_refused_whole(three, tmp_path, change, reason):
    bundle = altered(bundles.export(three, tmp_path / "a.zip"), tmp_path / "b.zip", change)
    with pytest.raises(RunError, match=reason):
        bundles.bring(bundle, tmp_path / "other")
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").iterdir())
    assert not (tmp_path / "evil").exists()


def test_what_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"not a zip file")
    with pytest.raises(RunError, match="is not a bundle of runs"):
        bundles.bring(tmp_path / "a.zip")
    with pytest.raises(RunError, match=r"absent\.zip: no such file; expected a bundle"):
        bundles.bring(tmp_path / "absent.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.writestr("hello.txt", "hello")
    with pytest.raises(RunError, match="is not a bundle of runs"):
        bundles.bring(tmp_path / "b.zip")


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
    assert "value of 3 runs against rate" in browser.table.view["message"]
    browser.delete(three[:1])
    assert len(browser.table.view["rows"]) == 2
    json.dumps(browser.table.view)


def test_the_browser_shows_what_was_run_since_it_was_opened(three):
    browser = RunBrowser()
    browser._told({"do": "look"}, [])
    before = browser.table.view
    config = toy.ToyConfig(steps=4, rate=0.77)
    new = runs.run_id(get("toy/walk"), config)
    list(runs.stream(get("toy/walk"), config))
    browser._told({"do": "look"}, [])
    assert new in {row["id"] for row in browser.table.view["rows"]} - {row["id"] for row in before["rows"]}
    archive.delete([new])
    browser._told({"do": "look"}, [])
    assert browser.table.view["rows"] == before["rows"]


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
    assert "3 new runs imported" in browser.table.view["message"]


def test_an_empty_folder_has_an_empty_browser(runs_folder):
    assert RunBrowser().table.view["rows"] == []


# -- bundles and folders of other people ---------------------------------------------------------------------------------------


def forged(three, tmp_path, about=None, records=None, name="forged"):
    """A bundle with one run, whose checksums and id are all right, and whose content is what somebody likes."""
    made = json.loads((runs.runs_folder() / three[0] / "run.json").read_text())
    data = (runs.runs_folder() / three[0] / "records.jsonl").read_bytes() if records is None else records
    made |= {"records_sha256": hashlib.sha256(data).hexdigest(), "records": len(data.splitlines())}
    made = made | (about or {}) if isinstance(about, dict | None) else about
    run = three[0]
    if isinstance(about, dict) and {"config", "experiment", "inputs"} & {*about}:
        run = runs.identity(made["experiment"], made["version"], made["config"], made["inputs"])
    files, manifest = {}, {"format": bundles.FORMAT, "files": {}}
    swap(files, manifest, f"{run}/run.json", json.dumps(made).encode())
    swap(files, manifest, f"{run}/records.jsonl", data)
    return zipped(tmp_path / f"{name}.zip", files, manifest)


def zipped(path, files, manifest):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
        bundle.writestr("manifest.json", manifest if isinstance(manifest, bytes) else json.dumps(manifest))
    return path


def lines_of(*records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


STEP = {"step": 0, "value": 0.1, "spread": [0.1, -0.1]}
FORGERIES = {
    "a list for run.json": (
        {"about": []},
        "run.json holds a value of type list; expected a JSON object with the fields of a run",
    ),
    "a number for run.json": ({"about": 3}, "run.json holds a value of type int"),
    "no config": ({"about": {"config": None}}, "config="),
    "a number stored as text": ({"about": {"wall_seconds": "3.5"}}, "wall_seconds='3.5': input should be a valid number"),
    "records stored as text": ({"about": {"records": "4"}}, "records='4': input should be a valid integer"),
    "a negative time": ({"about": {"wall_seconds": -1}}, "wall_seconds=-1"),
    "no date": ({"about": {"finished": 20260102}}, "finished=20260102"),
    "a date that is none": ({"about": {"finished": "<script>"}}, "finished="),
    "fits that are none": ({"about": {"fits": [3]}}, "fits="),
    "fewer records than said": ({"about": {"records": 9}}, "has 4 records; expected 9"),
    "an empty run": ({"records": b""}, "records=0: input should be greater"),
    "records that are numbers": ({"records": b"1\n2\n3\n"}, "line 1 holds a value of type int; expected a JSON object"),
    "records that are lists": ({"records": b"[]\n[]\n"}, "line 1 holds a value of type list"),
    "records that are no JSON": ({"records": b"{}\nsurprise\n"}, "Expecting value"),
    "a record in a record": (
        {"records": lines_of({**STEP, "value": {"a": 1}})},
        "line 1: 'value' holds a JSON object; expected a number",
    ),
    "a record in an array": ({"records": lines_of(STEP, {**STEP, "spread": [[{}]]})}, "line 2: 'spread'"),
    "a record too large": (
        {"records": lines_of({**STEP, "spread": [1.5] * 70_000})},
        "line 1 is too large; expected a record of at most",
    ),
    "nested without end": ({"records": b"[" * 200_000 + b"\n"}, "nested too deeply"),
    "a value stored as text": ({"records": lines_of({**STEP, "value": "0.1"})}, "toy/walk cannot display its records"),
    "values that are missing": ({"records": lines_of({"step": 0})}, "toy/walk cannot display its records"),
}


@pytest.mark.parametrize("forgery", [*FORGERIES])
def test_a_bundle_that_would_leave_tracebacks_is_refused_whole(three, tmp_path, runs_folder, forgery):
    made, said = FORGERIES[forgery]
    path = forged(three, tmp_path, **made)
    with pytest.raises(RunError, match=said):
        bundles.bring(path, tmp_path / "other")
    assert [*(tmp_path / "other").glob("*")] == []
    assert [*runs_folder.glob(".importing-*")] == []


def test_one_bad_run_keeps_the_good_ones_out_too(three, tmp_path):
    good = bundles.export(three, tmp_path / "good.zip")

    def spoil(files, manifest):
        name = sorted(n for n in files if n.endswith("run.json"))[-1]
        swap(files, manifest, name, b"[]")

    with pytest.raises(RunError, match="holds a value of type list"):
        bundles.bring(altered(good, tmp_path / "bad.zip", spoil), tmp_path / "other")
    assert [*(tmp_path / "other").glob("*")] == []


def test_a_run_of_another_version_or_method_comes_in_with_what_can_be_checked(three, tmp_path):
    records = lines_of({"nothing": "known"})
    for about in ({"version": 7}, {"experiment": "nobody/knows"}):
        path = forged(three, tmp_path, {**about, "inputs": []}, records, "other")
        (name,) = bundles.bring(path, tmp_path / "other")
        assert runs.load(tmp_path / "other" / name) == [{"nothing": "known"}]


@pytest.mark.parametrize(
    "manifest",
    [[], 3, {"format": bundles.FORMAT}, {"format": bundles.FORMAT, "files": []},
     {"format": bundles.FORMAT, "files": {"a/run.json": {"sha256": 3, "size": 1}}},
     {"format": bundles.FORMAT, "files": {"a/run.json": {"sha256": "0" * 64, "size": "1"}}},
     b"[" * 100_000, b"\xff\xfe"],
    ids=["list", "number", "no files", "files in a list", "sum", "size", "nested", "bytes"],
)  # fmt: skip
def test_a_manifest_that_is_none(tmp_path, manifest):
    path = zipped(tmp_path / "a.zip", {"a/run.json": b"{}"}, manifest)
    with pytest.raises(RunError, match="is not a bundle of runs"):
        bundles.bring(path, tmp_path / "other")


def test_names_that_lead_elsewhere(three, tmp_path):
    for inside in ("../x/run.json", "a/../../run.json", "a/artefacts/..", "a/artefacts/b/c", "./run.json", "/run.json",
                   "a\\b/run.json", "a/artefacts/.hidden", "a/artefacts/", ".a/run.json", "run.json", "a/other"):  # fmt: skip
        files, manifest = {}, {"format": bundles.FORMAT, "files": {}}
        swap(files, manifest, inside, b"{}")
        with pytest.raises(RunError, match=r"expected RUN/run.json|is not a bundle|differ from those listed in manifest\.json"):
            bundles.bring(zipped(tmp_path / "a.zip", files, manifest), tmp_path / "other")
    assert [*tmp_path.glob("**/x")] == []


@pytest.mark.parametrize("part", ["manifest.json", "a/run.json", "a/records.jsonl", "a/artefacts/x"])
def test_what_unfolds_to_gigabytes_is_refused_before_it_does(tmp_path, part, monkeypatch):
    """Three megabytes of a bundle took six gigabytes of memory."""
    monkeypatch.setattr(bundles, "LARGEST", 70_000_000)
    files, manifest = {}, {"format": bundles.FORMAT, "files": {}}
    for name in ("a/run.json", "a/records.jsonl", "a/artefacts/x"):
        swap(files, manifest, name, b"{}")
    blown = b" " * 80_000_000
    if part == "manifest.json":
        path = zipped(tmp_path / "a.zip", files, blown)
    else:
        path = zipped(tmp_path / "a.zip", {**files, part: blown}, manifest)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(RunError, match=f"{part} has 80,000,000 bytes after decompression; expected at most"):
        bundles.bring(path, tmp_path / "other")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert not (tmp_path / "other").exists()


def test_many_files_are_unfolded_one_after_another(three, tmp_path, runs_folder):
    folder = runs_folder / three[0] / "artefacts"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.bin").write_bytes(bytes(20_000_000))
    path = bundles.export(three[:1], tmp_path / "a.zip")
    tracemalloc.start()
    bundles.bring(path, tmp_path / "other")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
    assert sum(p.stat().st_size for p in (tmp_path / "other").rglob("*.bin")) == 120_000_000


def test_a_zip_that_is_cut_off_or_encrypted(three, tmp_path):
    data = bundles.export(three, tmp_path / "a.zip").read_bytes()
    for number in range(0, len(data), len(data) // 40):
        (tmp_path / "b.zip").write_bytes(data[:number])
        with pytest.raises(RunError, match="is not a bundle of runs"):
            bundles.bring(tmp_path / "b.zip", tmp_path / "other")
        broken = bytearray(data)
        broken[number] ^= 0xFF
        (tmp_path / "b.zip").write_bytes(broken)
        try:
            names = bundles.bring(tmp_path / "b.zip", tmp_path / f"other{number}")
        except RunError:
            continue
        assert all(runs.load(tmp_path / f"other{number}" / n) == runs.load(runs.runs_folder() / n) for n in names)


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "/", "a/b", "a\\b", ".hidden", "exports"])
def test_nothing_outside_the_runs_folder_has_a_name(three, runs_folder, name, tmp_path):
    for place in (runs_folder, runs_folder.parent, runs_folder / "exports"):
        place.mkdir(exist_ok=True)
        (place / "run.json").write_text("{}") if name != "exports" else None
    for use in (archive.folder_of, lambda n: archive.delete([n]), lambda n: bundles.export([n], tmp_path / "a" / "b.zip")):
        with pytest.raises(RunError, match="no run"):
            use(name)
    assert not (tmp_path / "a").exists()
    assert name == "exports" or (runs_folder.parent / "run.json").exists()
    with pytest.raises(RunError, match="plain file name"):
        runs.Run(runs_folder / "x").path(name if name != "exports" else "..")


def test_links_are_neither_followed_nor_sent(three, runs_folder, tmp_path, capsys):
    secret = tmp_path / "secret"
    secret.mkdir()
    for file in (runs_folder / three[0]).iterdir():
        (secret / file.name).write_bytes(file.read_bytes())
    (runs_folder / "linked").symlink_to(secret)
    assert [run.id for run in archive.kept()] == three
    assert "linked is not listed because it contains no valid run: the folder is a symbolic link" in capsys.readouterr().err
    with pytest.raises(RunError, match="no run 'linked'"):
        archive.delete(["linked"])
    assert (secret / "run.json").exists()
    (runs_folder / three[0] / "artefacts").mkdir()
    (runs_folder / three[0] / "artefacts" / "passwords").symlink_to(secret / "run.json")
    with zipfile.ZipFile(bundles.export(three[:1], tmp_path / "a.zip")) as bundle:
        assert not [n for n in bundle.namelist() if "artefacts" in n]


ODD = {
    "list": "[]", "number": "3", "text": '"x"', "half": '{"experiment": "toy/', "nothing": "", "empty": "{}",
    "nested": "[" * 100_000, "other": '{"name": "my-npm-package", "version": "1.0.0"}',
}  # fmt: skip


@pytest.mark.parametrize("odd", [*ODD])
def test_a_folder_that_holds_something_else_is_one_line(three, runs_folder, odd, capsys):
    folder = runs_folder / "odd"
    folder.mkdir()
    (folder / "run.json").write_text(ODD[odd])
    (folder / "records.jsonl").write_text("1\n2\n")
    assert [run.id for run in archive.kept()] == three
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "odd is not listed because it contains no valid run: " in told
    browser = RunBrowser()
    assert len(browser.table.view["rows"]) == 3
    assert "odd is not listed because it contains no valid run" in browser.table.view["message"]
    assert runs.load(folder) is None
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("odd", [*ODD])
def test_a_run_whose_folder_was_damaged_is_done_again(runs_folder, odd):
    config = toy.ToyConfig(steps=4)
    first = list(runs.stream(get("toy/walk"), config))
    folder = runs_folder / runs.run_id(get("toy/walk"), config)
    (folder / "run.json").write_text(ODD[odd])
    assert list(runs.stream(get("toy/walk"), config)) == first
    data = b"1\n2\n"
    about = json.loads((folder / "run.json").read_text())
    (folder / "records.jsonl").write_bytes(data)
    (folder / "run.json").write_text(json.dumps(about | {"records_sha256": hashlib.sha256(data).hexdigest()}))
    assert list(runs.stream(get("toy/walk"), config)) == first


def test_a_run_json_without_an_end_is_not_read_to_its_end(three, runs_folder, capsys):
    with (runs_folder / three[0] / "run.json").open("wb") as file:
        file.truncate(10**12)
    assert [run.id for run in archive.kept()] == three[1:]
    assert "is too large; expected at most 4,000,000 bytes" in capsys.readouterr().err


def test_who_takes_a_bundle_in_is_told_what_checksums_are_worth(three, tmp_path, runs_folder):
    from typer.testing import CliRunner

    from workbench.__main__ import app

    path = bundles.export(three, tmp_path / "a.zip")
    archive.delete(three)
    done = CliRunner().invoke(app, ["runs", "--import", str(path)])
    assert done.exit_code == 0
    assert "3 new runs imported" in done.output
    assert "the checksums detect damage, but not forgery" in done.output
    archive.delete(three)
    browser = RunBrowser()
    browser._told({"do": "bring", "file": "../../x.zip"}, [path.read_bytes()])
    assert "3 new runs imported from x.zip" in browser.table.view["message"]
    assert "can write arbitrary records" in browser.table.view["message"]
    browser._told({"do": "export", "ids": ["../../up"]}, [])
    assert "no run is chosen" in browser.table.view["message"]
