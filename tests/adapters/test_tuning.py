"""Fine-tuning on real questions: it learns, goes on after a cut with the same bytes, and says what is wrong."""

import copy
import dataclasses
import json
import math
import random
import re

import huggingface_hub
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from workbench import models, qa
from workbench.adapters import METHODS, AdapterConfig, add_adapter
from workbench.adapters.attach import adapted
from workbench.adapters.lab import problems, tuning
from workbench.adapters.lab.tuning import Tuner, TuningConfig
from workbench.datasets import DataError
from workbench.generation import generate
from workbench.knobs import KnobError
from workbench.training import TrainingError

SHORT = {"steps": 6, "batch": 4, "samples": 64, "r": 8}


def state(tuner):
    return {n: p.detach().clone() for n, p in tuner.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", METHODS)
def test_learns(method):
    rate = {"full": 3e-4, "lora-ga": 1e-3, "hira": 0.03, "lora+": 5e-4}.get(method, 3e-3)
    tuner = Tuner(TuningConfig(method=method, **SHORT | {"steps": 12}, lr=rate))
    before = tuner.judge(tuner.problems.test[:32])["loss"]
    losses = [loss for _, loss in tuner.run()]
    assert losses[0] == pytest.approx(before, rel=0.3)
    assert tuner.judge(tuner.problems.test[:32])["loss"] < before - 0.5
    assert tuner.gradient_norm > 0


def test_loss_is_that_of_the_answers_by_another_way():
    tuner = Tuner(TuningConfig(**SHORT))
    samples = tuner.encoded(tuner.problems.test[:5])
    total, count = 0.0, 0
    for sample in samples:  # one at a time, all logits, unpadded
        logits = tuner.lm.model(input_ids=sample.ids[None]).logits[0]
        total += F.cross_entropy(logits[sample.start - 1 : -1], sample.ids[sample.start :], reduction="sum").item()
        count += len(sample.ids) - sample.start
    assert tuner.judge(tuner.problems.test[:5])["loss"] == pytest.approx(total / count, abs=1e-4)


def test_exact_match_in_one_pass_is_greedy_decoding():
    tuner = Tuner(TuningConfig(**SHORT | {"steps": 60, "samples": 8, "batch": 8}, lr=0.01))
    for _ in tuner.run():
        pass
    part = tuner.problems.train[:8] + tuner.problems.test[:8]
    right, tokenizer = 0, tuner.lm.tokenizer
    for problem in part:
        text = qa.prompt(problem.question)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        out = tuner.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0)
        said = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        right += said.partition("\n")[:2] == (" " + problem.answer, "\n")  # a line break ends it
    assert tuner.judge(part)["exact"] == right / len(part)
    assert right >= 4  # it knows what it was trained on


@pytest.mark.parametrize(
    "knobs", [{}, {"method": "lora", "dropout": 0.2}, {"method": "pissa"}, {"method": "bat-row", "model": "tiny-rwkv6"}]
)
def test_a_cut_run_ends_with_the_same_bytes(knobs, tmp_path):
    config = TuningConfig(**SHORT, **knobs)
    whole = Tuner(config)
    losses = [loss for _, loss in whole.run()]
    again, seen = Tuner(config), []
    for cut in sorted(random.Random(0).sample(range(1, 6), 3)):
        seen += [loss for _, loss in again.run(cut)]
        torch.save(again.state_dict(), tmp_path / "state.pt")
        again = Tuner(config)
        again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    seen += [loss for _, loss in again.run()]
    assert seen == losses
    assert all(torch.equal(a, b) for a, b in zip(state(whole).values(), state(again).values(), strict=True))


def test_looking_at_it_changes_nothing():
    config = TuningConfig(**SHORT, method="lora", dropout=0.3)
    alone, watched, seen = Tuner(config), Tuner(config), []
    for _, loss in watched.run():
        watched.judge(watched.problems.test[:4])
        watched.prose_loss(256)
        seen.append(loss)
    assert seen == [loss for _, loss in alone.run()]
    assert all(torch.equal(a, b) for a, b in zip(state(alone).values(), state(watched).values(), strict=True))


def test_two_tuners_share_the_weights_and_nothing_else():
    one, two = Tuner(TuningConfig(**SHORT)), Tuner(TuningConfig(**SHORT, method="lora"))
    for _ in one.run():
        pass
    layers = [*adapted(one.model).values()], [*adapted(two.model).values()]
    assert all(a.own[0] is b.own[0] for a, b in zip(*layers, strict=True))
    assert all(len(layer.adapters) == 1 for layer in (*layers[0], *layers[1]))
    lm = models.shared(models.TINY)
    assert not any("adapters" in n for n, _ in lm.model.named_modules())


def test_rates_follow_their_schedule():
    for schedule, warmup, expected in (
        ("constant", 0.0, [1, 1, 1, 1]),
        ("cosine", 0.0, [1, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 - math.cos(math.pi / 4)) / 2]),
        ("constant", 0.5, [0.5, 1, 1, 1]),
    ):
        tuner = Tuner(TuningConfig(**SHORT | {"steps": 4}, schedule=schedule, warmup=warmup, lr=0.004))
        rates = []
        for until in range(1, 5):
            rates.append(tuner.training.optimizer.param_groups[0]["lr"] / 0.004)
            for _ in tuner.run(until):
                pass
        assert rates == pytest.approx(expected)


def test_forgetting_is_seen():
    tuner = Tuner(TuningConfig(**SHORT, lr=0.01, method="lora"))
    before = tuner.prose_loss(1024)
    plain = models.loss(models.shared(models.TINY), problems.datasets.load("prose-evaluation"), 256, 1024)
    assert before == pytest.approx(plain)
    for _ in tuner.run():
        pass
    assert tuner.prose_loss(1024) > before


# -- what is refused or told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient's norm"])
def test_what_is_not_finite_is_told_before_a_weight_is_touched(what, monkeypatch):
    tuner = Tuner(TuningConfig(**SHORT))
    next(tuner.run(1))
    kept = copy.deepcopy(tuner.state_dict())
    logits = qa.answer_logits

    def spoilt(model, batch):
        values = logits(model, batch)
        if what == "loss":
            return values * math.nan
        values.register_hook(lambda gradient: gradient * math.nan)
        return values

    monkeypatch.setattr(qa, "answer_logits", spoilt)
    with pytest.raises(TrainingError, match=f"the {what} is nan at step 2 of 6; the state after step 1 is saved"):
        next(tuner.run())
    now = tuner.state_dict()["training"]
    assert now["done"] == 1
    for name, tensor in kept["training"]["model"].items():
        assert torch.equal(now["model"][name], tensor), name


def test_a_rate_that_flies_off_is_told():
    with pytest.raises(TrainingError, match=r"the training diverges: .* set a lower learning rate than 0\.05"):
        for _ in Tuner(TuningConfig(**SHORT, method="lora", lr=0.05)).run():
            pass


@pytest.mark.parametrize("where", ["run", "judge", "prose", "start"])
def test_out_of_memory_says_what_to_lower(monkeypatch, where):
    tuner = Tuner(TuningConfig(**SHORT))

    def fails(*_, **__):
        raise RuntimeError("[enforce fail] can't allocate memory")

    monkeypatch.setattr(qa, "answer_logits", fails)
    monkeypatch.setattr(models, "loss", fails)
    monkeypatch.setattr(tuning, "add_adapter", fails)
    with pytest.raises(TrainingError, match="lower the batch size"):
        {
            "run": lambda: next(tuner.run()),
            "judge": lambda: tuner.judge(tuner.problems.test[:4]),
            "prose": tuner.prose_loss,
            "start": lambda: Tuner(TuningConfig(**SHORT)),
        }[where]()


def test_auto_is_resolved_before_the_config_is_made():
    config = TuningConfig(dtype="auto")
    assert config.dtype in ("float32", "bfloat16")
    with pytest.raises(KnobError, match="dtype='half'"):
        TuningConfig(dtype="half")


def test_bf16_base_under_float32_adapters():
    tuner = Tuner(TuningConfig(**SHORT | {"steps": 12}, dtype="bfloat16"))
    before = tuner.judge(tuner.problems.test[:32])["loss"]
    for _ in tuner.run():
        pass
    assert tuner.judge(tuner.problems.test[:32])["loss"] < before - 0.5
    assert {p.dtype for p in tuner.model.parameters() if p.requires_grad} == {torch.float32}
    assert next(iter(adapted(tuner.model).values())).weight.dtype == torch.bfloat16


# -- problems --------------------------------------------------------------------------------------------------------------------


def test_parts_do_not_overlap_and_answers_are_right():
    for name in problems.BUNDLED:
        found = problems.load(name)
        parts = [{p.question for p in part} for part in (found.train, found.validation, found.test)]
        assert [len(part) for part in parts] == [2000 if name == "last-word" else 4000, 300, 500]
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    for problem in problems.load("sums").test:
        assert eval(problem.question.removesuffix("=")) == int(problem.answer)
    for problem in problems.load("last-word").test:
        assert problem.question.removesuffix("?").split()[-1] == problem.answer
    for problem in problems.load("word-problems").test:
        assert problems.last_number(problem.answer)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 12 eggs\n#### 1,024", "1024"), ("It is 3.50.", "3.50"), ("-7", "-7"), ("a total of $5.00", "5"), ("none", ""),
        ("first 3, then 4 ducks.", "4"), ("#### 18\nQuestion: 5", "18"),
    ],
)  # fmt: skip
def test_last_number(text, number):
    assert problems.last_number(text.partition("\nQuestion")[0]) == number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\left( 3, \frac{\pi}{2} \right)}.", r"(3,\frac{\pi}{2})"),
        (r"\boxed{1} and then \boxed{x = 5}", "5"),
        (r"\boxed{\dfrac12}", r"\frac{1}{2}"),
        (r"\boxed{45^\circ}", "45"),
        (r"\boxed{\text{Evelyn}}", "Evelyn"),
        (r"\boxed{10\%}", "10"),
        ("no box", ""),
    ],
)
def test_boxed(text, answer):
    assert problems.boxed(text) == answer


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"query": f"{i} + 1 =", "response": f"we add\n#### {i + 1}"}) + "\n" for i in range(20)))
    found = problems.load(str(path))
    assert [len(found.train), len(found.validation), len(found.test)] == [14, 2, 4]
    assert found.final is problems.last_number
    tuner = Tuner(TuningConfig(data=str(path), steps=2, batch=2))
    assert len([*tuner.run()]) == 2
    assert 0 <= tuner.final_answers(found.test[:2], 8) <= 1
    assert problems.inputs(str(path))[0].startswith(str(path))
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad.json").write_text("no")
    for name, message in (("odd.csv", "expected one of"), ("bad.json", "cannot be read")):
        with pytest.raises(DataError, match=message):
            problems.load(str(tmp_path / name))
    with pytest.raises(DataError, match="no data 'nothing'"):
        problems.load("nothing")


HUB = {  # files as these sets of the hub have them
    "meta-math/MetaMathQA": {"MetaMathQA-395K.json": ("query", "response")},
    "m-a-p/CodeFeedback-Filtered-Instruction": {"CodeFeedback-Filtered-Instruction.jsonl": ("query", "answer")},
    "EleutherAI/hendrycks_math": {
        "algebra/train-00000-of-00001.parquet": ("problem", "solution"),
        "geometry/train-00000-of-00001.parquet": ("problem", "solution"),
        "geometry/test-00000-of-00001.parquet": ("problem", "solution"),
        "dataset_infos.json": ("name", "size"),
    },
}


@pytest.mark.parametrize("name", HUB)
def test_data_sets_of_the_hub(tmp_path, monkeypatch, name):
    """No hub is reached in CI: their layouts stand here, and what would download them gives this folder."""
    for number, (path, columns) in enumerate(HUB[name].items()):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        rows = [{columns[0]: f"{number} and {k}?", columns[1]: rf"so it is \\boxed{{{k}}}"} for k in range(20)]
        lines = not path.endswith(".json")
        pd.DataFrame(rows).to_json(tmp_path / path, orient="records", lines=lines)
    monkeypatch.setattr(pd, "read_parquet", lambda path: pd.read_json(path, lines=True))  # needs pyarrow, below
    asked = {}

    def download(name, **more):
        asked.update(name=name, **more)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = problems.load.__wrapped__(name)
    assert asked["name"] == name
    assert asked["repo_type"] == "dataset"
    questions = [p.question for part in (found.train, found.validation, found.test) for p in part]
    trained = {"hendrycks": 40}.get(name.partition("/")[2].partition("_")[0], 20)
    assert len({*questions}) == len(questions) == trained
    assert found.final(found.test[0].answer) == found.test[0].question.split()[-1].rstrip("?")
    (first,) = problems.inputs(name)
    assert re.fullmatch(rf"{name}@[0-9a-f]{{16}}", first)


def test_parquet_says_what_it_needs(tmp_path, monkeypatch):
    def fails(path):
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", fails)
    (tmp_path / "mine.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="pip install pyarrow"):
        problems.load(str(tmp_path / "mine.parquet"))


@pytest.mark.parametrize("name", ["svamp", "gsm8k", "math-500"])
def test_sets_of_your_folder(name):
    try:
        found = problems.load(name)
    except DataError as error:
        pytest.skip(str(error)[:60])
    assert all(found.final(p.answer) for p in found.test) if found.final else found.test[0].answer.isdigit()
    assert not {p.question for p in found.train} & {p.question for p in found.test}


def test_samples_are_cut_at_the_longest():
    lm = models.shared(models.TINY)
    for sample in qa.encode(lm, problems.load("word-problems").train[:20], length=40):
        assert len(sample.ids) <= 40
        assert 1 <= sample.start < len(sample.ids)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers has a new name for it
@pytest.mark.parametrize("method", ["miss", "bat-row", "bat-col", "lora", "dora"])
def test_checkpointing_of_the_model_changes_no_gradient(method):
    grads = []
    for kind in (None, False, True):
        tuner = Tuner(TuningConfig(method=method, **SHORT))
        for p in (p for p in tuner.model.parameters() if p.requires_grad):
            p.data += 0.01
        tuner.model.train()
        if kind is not None:
            tuner.model.gradient_checkpointing_enable({"use_reentrant": kind})
            tuner.model.enable_input_require_grads()  # a reentrant one with frozen inputs would lose the gradient
        batch = qa.collate(tuner.train[:4])
        qa.answer_loss(tuner.model, batch).backward()
        grads.append([p.grad for p in tuner.model.parameters() if p.requires_grad])
    for other in grads[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads[0], other, strict=True))


@pytest.mark.parametrize("method", ["miss", "mini", "bat-row", "bat-col", "lora", "pissa", "dora", "hira"])
def test_a_compiled_model_gives_the_same(method):
    model = Tuner(TuningConfig(method=method, **SHORT)).model.model.layers[0].mlp
    compiled, x = torch.compile(model, backend="aot_eager"), torch.randn(2, 5, 128)
    assert torch.allclose(compiled(x), model(x), atol=1e-5)


def test_our_own_quantized_layers_are_adapted():
    from workbench.quantization import layer_statistics, quantize_layer

    tuner = Tuner(TuningConfig(method="bat-row", **SHORT))
    lm = models.shared(models.TINY)
    model = models.shallow_copy(lm).model
    for layer in (block.mlp.up_proj for block in model.model.layers):
        hessian, cross = layer_statistics(torch.randn(256, layer.in_features), None)
        weight = quantize_layer(layer.weight.detach(), hessian, cross, method="gptq", bits=4).weight
        layer.weight = torch.nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
    assert model.model.layers[0].mlp.up_proj.weight is not lm.model.model.layers[0].mlp.up_proj.weight
    batch = qa.collate(tuner.train[:4])
    plain = model(input_ids=batch.ids).logits
    add_adapter(model, AdapterConfig(method="bat-row", r=8))
    assert torch.allclose(model(input_ids=batch.ids).logits, plain, atol=1e-5)
    model(input_ids=batch.ids, labels=batch.ids).loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-rwkv6"])
def test_answers_of_models_that_know_no_end_of_text_end_with_a_line_break(model):
    tuner = Tuner(TuningConfig(model=model, data="word-problems", **SHORT))
    said = tuner.lm.tokenizer.decode(tuner.train[0].ids)
    assert said.endswith("\n")
    assert said.count("\n") == 1 + qa.prompt(tuner.problems.train[0].question).count("\n"), "an answer is a line"
    assert "\n" not in generate(tuner.lm, "It was", 40).text
    other = dataclasses.replace(tuner.lm, one_line=False)
    ended = qa.encode(other, tuner.problems.train[:1])[0].ids
    assert ended[-1] == other.tokenizer.eos_token_id


def test_a_guess_is_by_the_place_of_a_token_alone():
    """Of three answers of two tokens, by hand: two kinds of token, and one for what was never seen."""
    made = [qa.Encoded(torch.tensor([9, a, b]), 1) for a, b in ((1, 2), (1, 2), (2, 2))]
    wanted = -(math.log(3 / 6) + math.log(4 / 6)) / 2
    assert problems.guess(made, made[:1]) == pytest.approx(wanted)
