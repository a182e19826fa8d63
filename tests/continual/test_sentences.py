"""Streams of sentences: split by document, no text twice, labels as they should be; and streams of one's own files."""

import os

import pandas as pd
import pytest
import torch

from workbench import checkpoints, datasets
from workbench.continual import fit, sentences, streams
from workbench.continual.config import ContinualConfig
from workbench.continual.nets import SentimentNet
from workbench.datasets import DataError
from workbench.knobs import KnobError

USERS = os.environ.get("WORKBENCH_DATA", "")
needs_pair = pytest.mark.skipif(
    not os.path.exists(os.path.join(USERS, "sentiment")), reason="needs WORKBENCH_DATA/sentiment: news and film reviews"
)
needs_minilm = pytest.mark.skipif(not checkpoints._packaged(checkpoints.MINILM_FILE), reason="needs: workbench fetch minilm")


def test_the_bundled_sentences_are_those_of_the_card():
    rows = datasets.load("vader")
    counts = pd.Series([r["domain"] for r in rows]).value_counts()
    assert counts.to_dict() == {"movies": 10603, "editorials": 5116, "tweets": 4140, "products": 3696}
    assert len({r["text"].lower() for r in rows}) == len(rows) == 23_555
    assert all(-4 <= r["valence"] <= 4 and r["text"].strip() == r["text"] for r in rows)


def test_vader_is_split_by_document_and_leaves_out_the_neutral():
    stream = sentences.vader()
    assert [t.name for t in stream.tasks] == ["tweets", "movies", "products", "editorials"]
    of = {"train": set(), "validation": set(), "test": set()}
    for row in datasets.load("vader"):
        if row["domain"] in ("products", "editorials"):
            document = f"{row['domain']} {row['id'].partition('_')[0]}"
            of[sentences._part(document)].add(document)
    assert sum(map(len, of.values())) == len(set.union(*of.values()))
    sure = sum(abs(r["valence"]) > 0.5 for r in datasets.load("vader"))
    assert sum(len(t.y_train) + len(t.y_validation) + len(t.y_test) for t in stream.tasks) == sure
    for task in stream.tasks:
        assert task.x_train.shape[1] == 1024
        assert set(task.y_train.tolist()) == {0, 1}
        assert 0.1 < len(task.y_test) / (len(task.y_train) + len(task.y_validation) + len(task.y_test)) < 0.25
    few = sentences.vader(samples=50, seed=1)
    assert [len(t.y_train) for t in few.tasks] == [50] * 4
    assert torch.equal(few.tasks[0].x_test, stream.tasks[0].x_test)


def test_a_bag_holds_a_one_for_each_word():
    one, same, none = sentences.hashed(["Good, good film!", "film good , !", ""])
    assert torch.equal(one, same)
    assert one.sum() == 4
    assert none.sum() == 0
    assert sentences.split("It's 5 o'clock :-)") == ["it's", "5", "o'clock", ":", "-", ")"]


def test_words_are_numbered_by_the_training_sentences_alone():
    numbered = sentences._numbering(["a b a", "b c"])
    assert numbered(["b a zebra c"])[0, :5].tolist() == [3, 2, 1, 1, 0]
    assert numbered([" ".join(["a"] * 99)]).shape == (1, 30)


def test_vader_is_learnt_better_than_by_chance():
    found = fit(sentences.vader(samples=800), "adagrad", lr=0.03, hidden=(32,), passes=2, watch=0)
    assert found.metrics["LA"] > 0.6


@needs_pair
def test_news_then_films_and_the_clash_of_labels():
    stream, clash = (sentences.news_films(labels=labels, samples=300) for labels in ("corrected", "published"))
    news, films = stream.tasks
    assert set(news.y_train.tolist()) == {0, 1, 2}
    assert set(films.y_train.tolist()) == {0, 2}
    assert set(clash.tasks[1].y_train.tolist()) == {0, 1}
    assert torch.equal(films.x_train, clash.tasks[1].x_train)
    assert "change of meaning" in clash.note
    assert not stream.note
    assert len(news.y_train) == len(films.y_train) == 300
    assert len(datasets.load("financial-phrasebank")) == 4846
    counts = pd.Series([label for label, _ in datasets.load("financial-phrasebank")]).value_counts()
    assert counts.to_dict() == {"neutral": 2879, "positive": 1363, "negative": 604}


@needs_pair
def test_the_papers_network_reads_numbered_words():
    config = ContinualConfig(
        stream="news-films", features="numbered", network="paper", samples=64, width=12, batch=32,
        method="ewc-online", lr=0.01, strength=0.1,
    )  # fmt: skip
    learner = config.learner(0)
    assert isinstance(learner.model, SentimentNet)
    for _ in learner.run():
        pass
    assert learner.result().matrix.shape == (3, 2)


def test_missing_data_names_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    sentences._read.cache_clear()
    with pytest.raises(DataError, match=r"financial-phrasebank.*Sentences_50Agree"):
        sentences.news_films()


def test_what_no_network_can_read_is_refused():
    for more in ({"features": "numbered"}, {"network": "paper"}):
        with pytest.raises(KnobError, match="expected 'numbered' with network='paper'"):
            ContinualConfig(stream="vader", **more)
    with pytest.raises(ValueError, match="features='glove': expected one of words, minilm, numbered"):
        sentences.vader("glove")


@needs_minilm
def test_minilm_puts_like_sentences_side_by_side_and_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    texts = ["What a lovely film.", "A wonderful movie!", "Interest rates rose on Monday."]
    x = sentences.embedded(texts)
    assert x.shape == (3, 384)
    assert x.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert x[0] @ x[1] > 0.6 > 0.3 > x[0] @ x[2]
    (kept,) = (tmp_path / "features").glob("*.safetensors")
    before = kept.stat().st_mtime_ns
    assert torch.equal(sentences.embedded(texts), x)
    assert kept.stat().st_mtime_ns == before
    alone = torch.cat([sentences._encode([text], 1) for text in texts])
    torch.testing.assert_close(alone, x, atol=1e-5, rtol=1e-4)  # padding changes nothing


def test_minilm_that_is_not_there_names_its_command(monkeypatch):
    monkeypatch.setattr(checkpoints, "MINILM_FILE", "no_such_package/model.safetensors")
    with pytest.raises(DataError, match="workbench fetch minilm"):
        checkpoints.find("minilm")


# -- one's own files ------------------------------------------------------------------------------------------------------


def written(folder, **tables):
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder


def rows(n=20, shift=0.0):
    x = torch.linspace(-1, 1, n) + shift
    return {"a": x.numpy(), "label": (x > shift).long().numpy(), "b": (2 * x).numpy()}


def test_each_file_is_a_task(tmp_path):
    stream = streams.read_csv(written(tmp_path, second=rows(shift=1.0), first=rows()))
    assert [t.name for t in stream.tasks] == ["first", "second"]
    assert stream.tasks[0].x_test.shape == (4, 2)
    assert len(stream.tasks[0].x_train) + len(stream.tasks[0].x_validation) == 16
    assert fit(stream, "sgd", lr=0.1, hidden=(4,), batch=4, watch=0).matrix.shape == (3, 2)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, r"contains no \*\.csv file; expected a folder with one CSV file per task"),
        ({"a": {"a": ["x"] * 9, "label": [0] * 9}}, r"a\.csv: row 2, column 'a': 'x' is not a finite number; expected a number"),
        ({"a": {"a": [1.0] * 3, "label": [0] * 3}}, r"a\.csv: the file has 3 rows; expected at least 5"),
        ({"a": {"a": [1.0] * 9, "label": [0, 1, -1] * 3}}, r"a\.csv: row 4, column 'label': the label is -1; expected a class"),
        (
            {"a": rows(), "b": {"a": [1.0] * 9, "label": [0, 1, 0] * 3}},
            r"b\.csv: the file has no column 'b'; expected the columns of a.csv: a, b",
        ),
    ],
)
def test_files_that_are_no_tasks_are_refused(tmp_path, tables, said):
    with pytest.raises(ValueError, match=said):
        streams.read_csv(written(tmp_path, **tables))
