"""Tests of question answering: reading tables, tokens, the loss on answers only, and the choice among answers."""

import ast
import json
import math
from pathlib import Path

import pytest
import torch
import toy_language
import transformers as tf
from torch.nn import functional as F

from workbench import models, qa, runs, training
from workbench.datasets import DataError
from workbench.experiment import get
from workbench.models import LanguageModel
from workbench.training import TrainingError


@pytest.mark.parametrize("model", [models.TINY, models.TINY_RWKV6, models.SMOLLM2])
def test_another_lab_loads_asks_chooses_and_trains_through_the_core_alone(model):
    names = [
        node.module for node in ast.walk(ast.parse(Path(toy_language.__file__).read_text())) if isinstance(node, ast.ImportFrom)
    ]
    assert all(name.count(".") <= 1 for name in names), "the toy lab may import only core modules of the package"
    answers = get("toy/answers")
    steps = 4 if model == models.SMOLLM2 else 30
    before, after = runs.stream(answers, answers.config(model=model, steps=steps))
    assert after["loss"] < before["loss"] - 0.3
    assert after["exact"] >= before["exact"]
    assert after["best"] == 0
    assert after["scores"] != before["scores"]
    assert isinstance(before["written"], str)


def test_a_file_of_rwkv_6_is_a_model_too_and_one_with_another_vocabulary_is_refused(tmp_path):
    lm = models.load(models.TINY_RWKV6)
    torch.save(lm.model.state_dict(), tmp_path / "mine.pth")
    again = models.load(str(tmp_path / "mine.pth"))
    assert torch.equal(again.model.emb.weight, lm.model.emb.weight)
    assert models.ref(str(tmp_path / "mine.pth")).startswith("mine@")
    state = lm.model.state_dict()
    torch.save(
        state | {"emb.weight": state["emb.weight"][:100], "head.weight": state["head.weight"][:100]}, tmp_path / "small.pth"
    )
    with pytest.raises(DataError, match="has a vocabulary of 100 tokens, but no tokenizer of that size is bundled"):
        models.load(str(tmp_path / "small.pth"))
    with pytest.raises(DataError, match=r"none.pth was not found; expected a .pth or .safetensors file of RWKV-6"):
        models.load(str(tmp_path / "none.pth"))


def test_a_shared_model_is_loaded_once_and_a_copy_of_it_shares_the_weights_and_nothing_else():
    assert models.shared(models.TINY) is models.shared(models.TINY, torch.float32, "cpu")
    assert models.load(models.TINY).model is not models.load(models.TINY).model
    lm = models.shallow_copy(models.shared(models.TINY))
    pairs = zip(lm.model.parameters(), models.shared(models.TINY).model.parameters(), strict=True)
    assert all(one is other for one, other in pairs)
    lm.model.lm_head = torch.nn.Identity()
    assert not isinstance(models.shared(models.TINY).model.lm_head, torch.nn.Identity)


# -- tables ----------------------------------------------------------------------------------------------------------------------


def written(path, rows):
    text = "\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [".jsonl", ".json"])
def test_numbers_stay_as_they_are_written_and_words_are_no_gaps(tmp_path, kind):
    """In a column with missing values, pandas reads 7 as 7.0; and it reads the words None, NA and null as missing."""
    rows = [{"question": "3 + 4", "answer": 7}, {"question": "0.5", "answer": 0.5}, {"question": "Who?", "answer": "None"}]
    found = qa.read(written(tmp_path / f"x{kind}", rows))
    assert [pair.answer for pair in found] == ["7", "0.5", "None"]
    with pytest.warns(UserWarning, match=r"x.json.*: 2 of 5 rows are left out, since they have no question or no answer"):
        assert qa.read(written(tmp_path / f"x{kind}", [*rows, {"question": "?", "answer": None}, {"answer": "a"}])) == found


def test_a_csv_keeps_words_that_look_like_gaps_and_line_breaks_in_cells(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffprompt,completion\nWho?,NA\n"a\nb","1,000"\n'.encode())
    assert qa.read(path) == [qa.Pair("Who?", "NA"), qa.Pair("a\nb", "1,000")]


def test_separators_of_lines_within_a_text_do_not_end_a_row(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"question": "a\u2028b", "answer": "c\u0085"}\n\n', encoding="utf-8")
    assert qa.read(tmp_path / "x.jsonl") == [qa.Pair("a\u2028b", "c\u0085")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", '{"question": "a", "answer": "b"}', "holds no rows; expected a table"),
        ("x.json", "[]", "holds no rows"),
        ("x.json", '[["a", "b"]]', "holds no rows"),
        ("x.jsonl", '{"question": "a"', "cannot be read"),
        ("x.json", "[" * 100_000, "cannot be read"),
        ("x.jsonl", '{"q": 1, "a": 2}', r"has the columns q, a; expected one of the pairs \(\('question', 'answer'\)"),
        ("x.jsonl", '{"question": "a", "answer": ["b"]}', "row 1: answer is a list; expected text or a number"),
        ("x.csv", "", "cannot be read"),
    ],
)
def test_files_that_are_no_tables_are_refused_by_name(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}.*{said}"):
        qa.read(tmp_path / name)


@pytest.mark.parametrize(
    ("answer", "said"), [("true", "is a bool"), ("1e999", "is inf; expected text or a finite number"), ("{}", "is a dict")]
)
def test_answers_that_are_neither_text_nor_numbers_are_refused(tmp_path, answer, said):
    (tmp_path / "x.JSONL").write_text(f'{{"question": "a", "answer": {answer}}}')
    with pytest.raises(DataError, match=f"row 1: answer {said}"):
        qa.read(str(tmp_path / "x.JSONL"))


def test_the_test_part_of_a_data_set_is_left_out_whatever_its_file_is_called(tmp_path, monkeypatch):
    kept = ["train.jsonl", "contest.jsonl", "latest/x.jsonl", "attestation.jsonl"]
    for name in [*kept, "test.jsonl", "data_test.jsonl", "x/Test-0.jsonl", "tests/a.jsonl", "testing.jsonl", "1test.jsonl"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    assert qa.tables("org/name") == sorted(tmp_path / name for name in kept)


# -- loss and choice -------------------------------------------------------------------------------------------------------------


def by_hand(lm, pair):
    """Return the negative log-likelihood of each token of an answer and of its end token, in float64, for one sample."""
    first = lm.prompt_ids([qa.prompt(pair.question)])[0]
    ids = [*first, *lm.tokenizer(" " + pair.answer, add_special_tokens=False)["input_ids"], lm.end]
    logits = lm.model(input_ids=torch.tensor([ids])).logits[0].double()
    return [-torch.log_softmax(logits[k - 1], 0)[ids[k]].item() for k in range(len(first), len(ids))]


@pytest.mark.parametrize("name", [models.TINY, models.TINY_RWKV6])
def test_the_loss_is_that_of_the_answers_tokens_alone_whatever_is_beside_them(name):
    lm = models.load(name)
    pairs = [qa.Pair("1 + 1 =", "2"), qa.Pair("Who was that, and where did he go?", "Ahab, to sea"), qa.Pair("a", "bc de")]
    wanted = [loss for pair in pairs for loss in by_hand(lm, pair)]
    samples = qa.encode(lm, pairs)
    assert qa.answer_loss(lm.model, qa.collate(samples)).item() == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)
    for size in (1, 2, 32):
        judged = qa.judge(lm, samples, size)
        assert judged["loss"] == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)
        assert judged["exact"] == 0


def test_exact_is_what_greedy_decoding_writes():
    from workbench.generation import generate

    lm = models.shared(models.SMOLLM2)
    text = "The capital of France is"
    said = generate(lm, text, 8).text
    first, ids = (lm.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, said))
    assert len(ids) == 8
    sample = qa.Encoded(torch.tensor([*first, *ids]), len(first))
    assert qa.judge(lm, [sample])["exact"] == 1
    wrong = qa.Encoded(torch.cat([sample.ids[:-1], sample.ids[-1:] - 1]), sample.start)
    assert qa.judge(lm, [sample, wrong])["exact"] == 0.5


def test_a_head_whose_logits_are_capped_is_not_used_alone():
    config = tf.Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, final_logit_softcapping=0.01, pad_token_id=0,
    )  # fmt: skip
    model = tf.Gemma2ForCausalLM(config).eval()
    assert not qa.head_alone_gives_logits(model)
    batch = qa.collate([qa.Encoded(torch.arange(1, 9), 3), qa.Encoded(torch.arange(5, 10), 1)])
    wanted = model(input_ids=batch.ids).logits[batch.rows, batch.columns]
    assert torch.equal(qa.answer_logits(model, batch), wanted)
    assert wanted.abs().max() <= 0.01


def test_a_choice_is_by_the_mean_log_likelihood_of_each_option():
    lm = models.shared(models.TINY)
    options = ["the whale", "a long answer of many words", "x"]
    best, scores = qa.choose(lm, "In the sea swims", options)
    for option, score in zip(options, scores, strict=True):
        first = lm.tokenizer("In the sea swims")["input_ids"]
        ids = [*first, *lm.tokenizer(f" {option}")["input_ids"]]
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0].double()
        losses = [-torch.log_softmax(logits[k - 1], 0)[ids[k]].item() for k in range(len(first), len(ids))]
        assert score == pytest.approx(-sum(losses) / len(losses), rel=1e-4)
    assert best == max(range(3), key=scores.__getitem__)
    for wrong in ([], ["a", " "]):
        with pytest.raises(ValueError, match="expected at least one text, and no empty text"):
            qa.choose(lm, "What?", wrong)
    with pytest.raises(ValueError, match=r"have \d+ tokens; tiny-llama accepts at most 512"):
        qa.choose(lm, "word " * 600, ["a", "b"])


def test_a_tokenizer_without_an_end_is_told():
    lm = models.load(models.TINY)
    lm.tokenizer.eos_token = None
    open_ended = LanguageModel("mine", lm.model, lm.tokenizer)
    with pytest.raises(DataError, match="the tokenizer of mine has no end-of-text token; set eos_token"):
        qa.encode(open_ended, [qa.Pair("a", "b")])
    assert open_ended.ends == {0}, "the id from the generation config"


def test_a_lack_of_memory_says_what_to_lower(monkeypatch):
    def short(*args, **kwargs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried 10 bytes")

    lm = models.shared(models.TINY)
    sample = qa.encode(lm, [qa.Pair("a", "b")])
    monkeypatch.setattr(qa, "answer_logits", short)
    for go in (
        lambda: qa.answer_loss(lm.model, qa.collate(sample)),
        lambda: qa.judge(lm, sample),
        lambda: qa.choose(lm, "a", ["b"]),
    ):
        with pytest.raises(TrainingError, match="out of memory: lower the batch size, the length of a sample"):
            go()
    with pytest.raises(RuntimeError, match="something else"), training.enough_memory():
        raise RuntimeError("something else")


def test_an_answer_in_nats_of_a_model_that_knows_nothing_is_the_log_of_the_vocabulary():
    model = tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1, tie_word_embeddings=False))
    torch.nn.init.zeros_(model.lm_head.weight)
    batch = qa.collate([qa.Encoded(torch.arange(6), 2)])
    assert qa.answer_loss(model.eval(), batch).item() == pytest.approx(math.log(50))
    assert F.softmax(qa.answer_logits(model, batch), -1).max().item() == pytest.approx(0.02)
    with pytest.raises(ValueError, match="no samples to judge"):
        qa.judge(models.shared(models.TINY), [])


def test_an_answer_needs_a_token_before_it():
    lm = models.shared(models.TINY)
    with pytest.raises(ValueError, match="a text has no tokens"):
        qa.choose(lm, "", ["a", "b"])
    with pytest.raises(ValueError, match="length=1: expected at least 2 tokens"):
        qa.encode(lm, [qa.Pair("a", "b")], length=1)
    with pytest.raises(ValueError, match="begins with its answer"):
        qa.collate([qa.Encoded(torch.arange(3), 0)])
    with pytest.raises(ValueError, match="there are no questions"):
        qa.accuracy(lm, [])


def test_a_tokenizer_that_puts_a_blank_before_each_text_puts_none_more_before_an_answer():
    """The tokenizers of Llama-2 and Mistral do this. The answer is the tokens that follow the question in the joint text."""
    from tokenizers import Tokenizer, normalizers
    from tokenizers import models as vocabularies
    from transformers import PreTrainedTokenizerFast

    letters = {letter: k for k, letter in enumerate(["<unk>", "</s>", "\u2581", *"abcdefgA:nswer\n"])}
    made = Tokenizer(vocabularies.BPE(letters, [], unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    (sample,) = qa.encode(LanguageModel("mine", None, tokenizer), [qa.Pair("a", "b")])
    assert sample.ids.tolist() == [*tokenizer("a\nAnswer: b")["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.decode(sample.ids[sample.start :]).replace(" ", "") == "\u2581b</s>"


def test_whether_the_head_alone_gives_the_logits_is_found_in_evaluation_mode():
    model = tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1)).train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert qa.head_alone_gives_logits(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_a_shared_model_follows_its_files(tmp_path):
    lm = models.load(models.TINY)
    lm.model.save_pretrained(tmp_path / "mine")
    lm.tokenizer.save_pretrained(tmp_path / "mine")
    first = models.shared(str(tmp_path / "mine"))
    assert models.shared(str(tmp_path / "mine")) is first
    lm.model.requires_grad_(False)
    lm.model.lm_head.weight.mul_(2)
    lm.model.save_pretrained(tmp_path / "mine")
    again = models.shared(str(tmp_path / "mine"))
    assert torch.equal(again.model.lm_head.weight, lm.model.lm_head.weight)
    assert (lm.context, models.shared(models.TINY_RWKV6).context) == (512, None)
