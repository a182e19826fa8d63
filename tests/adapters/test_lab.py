"""What one can do with adapters: live experiments, comparisons, claims, tables."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from adapters.test_adapters import Loses, batch

from workbench import models, papers, runs
from workbench.adapters import AdapterConfig, add_adapter, family, save_adapter
from workbench.adapters.attach import adapted
from workbench.adapters.config import METHODS, UNDROPPED
from workbench.adapters.lab import exercises, inside, looking, paper_tables, peft_code, questions, sizes, studies, tables, toy
from workbench.adapters.lab.controls import CONTROLS
from workbench.adapters.lab.experiments import TrainConfig
from workbench.adapters.lab.fits import FitConfig, StudyConfig, first_step, on_questions, rates
from workbench.adapters.lab.microscope import draw_microscope, examine
from workbench.adapters.lab.study_figures import at, share_of_steps
from workbench.adapters.lab.tuning import Tuner
from workbench.exercises import EXERCISES
from workbench.experiment import get
from workbench.intervals import scores
from workbench.knobs import KnobError

QUICK = {"steps": 6, "batch": 4, "samples": 64, "looks": 2, "held_out": 8, "tested": 16, "prose": 512}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))


# -- controls --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_begin_as_no_change_and_act_as_their_update(net, control):
    method = "miss" if control == "orthogonal A" else "bat-row"
    model = add_adapter(Loses(net()), AdapterConfig(method=method, r=8), kind=CONTROLS[control])
    x = batch()["x"]
    assert torch.equal(model(x).logits, Loses(net())(x).logits)
    g = torch.Generator().manual_seed(1)
    for p in (p for p in model.parameters() if p.requires_grad):
        p.data += 0.05 * torch.randn(p.shape, generator=g)
    for layer in adapted(model).values():
        z = torch.randn(3, layer.in_features)
        update = layer.adapters["default"]
        assert torch.allclose(
            layer(z), torch.nn.functional.linear(z, layer.own[0] + update.delta(layer.own[0]), layer.own[1]), atol=1e-5
        )


def test_controls_lack_what_they_say(net):
    parts = {}
    for control in ("W permuted", "without W", "without I"):
        model = add_adapter(net(), AdapterConfig(method="bat-row", r=8), kind=CONTROLS[control])
        layer = adapted(model)["blocks.0.up"]
        layer.adapters["default"].shard.data.normal_(generator=torch.Generator().manual_seed(0))
        parts[control] = layer.own[0], layer.adapters["default"]
    weight, update = parts["without I"]
    whole = family.bat_row_delta(update.shard, weight)
    assert torch.allclose(update.delta(weight) + parts["without W"][1].delta(weight), whole, atol=1e-5)
    guide = parts["W permuted"][1].guide
    assert torch.equal(guide.flatten().sort().values, weight.flatten().sort().values)
    assert not torch.equal(guide, weight)
    assert torch.linalg.matrix_rank(parts["without W"][1].delta(weight)) <= 8
    orthogonal = adapted(add_adapter(net(), AdapterConfig(method="miss", r=8), kind=CONTROLS["orthogonal A"]))["blocks.0.up"]
    A = orthogonal.adapters["default"].A
    assert torch.allclose(A @ A.T, torch.eye(8) * 96 / 8, atol=1e-4)  # rows as long as MiSS's, which has 12 ones in each
    assert not A.requires_grad


# -- fits ------------------------------------------------------------------------------------------------------------------------


def test_a_first_step_is_undone():
    tuner = Tuner(TrainConfig(method="lora", **{k: QUICK[k] for k in ("steps", "batch", "samples")}))
    before = {n: p.detach().clone() for n, p in tuner.model.named_parameters() if p.requires_grad}
    seen = first_step(tuner)
    assert all(torch.equal(p, before[n]) for n, p in tuner.model.named_parameters() if p.requires_grad)
    assert tuner.training.done == 0
    losses = [loss for _, loss in tuner.run()]
    fresh = [loss for _, loss in Tuner(tuner.config).run()]
    assert losses == fresh
    assert 0 < seen["step"] < 0.5
    assert seen["kept"] > 0


@pytest.mark.parametrize(
    ("method", "kept"), [("lora", 32 * (48 + 4)), ("miss", 32 * 8), ("bat-row", 32 * 48), ("bat-col", 32 * 48)]
)
def test_a_layer_keeps_what_its_form_needs(method, kept):
    config = sizes.SizeConfig(method=method, width=48, tokens=32, r=8, repeats=2)
    seen = sizes.on_layer.experiment.generate(config, None)
    (record,) = seen
    assert record["kept"] == 4 * kept / 2**20  # its input, or that folded, and LoRA's inner product
    assert record["parameters"] == (4 * 96 if method == "lora" else 8 * 48)
    assert record["init_seconds"] > 0
    assert record["step_ratio"] > 0


def test_a_fit_cut_anywhere_ends_with_the_same_record(tmp_path, monkeypatch):
    config = FitConfig(**QUICK, method="bat-row")
    monkeypatch.setattr("workbench.training.SAVE_EVERY", 0.0)
    (whole,) = runs.stream(on_questions.experiment, config, tmp_path / "whole")
    steps = Tuner.run

    def cut(self, until=None):
        for step, loss in steps(self, until):
            yield step, loss
            if step == 3 and until is None and cut.once:
                cut.once = False
                raise KeyboardInterrupt

    cut.once = True
    monkeypatch.setattr(Tuner, "run", cut)
    with pytest.raises(KeyboardInterrupt):
        list(runs.stream(on_questions.experiment, config, tmp_path / "cut"))
    (again,) = runs.stream(on_questions.experiment, config, tmp_path / "cut")
    timed = ("training_seconds", "init_seconds")
    assert {k: v for k, v in again.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}


def test_rates_lie_around_their_middle():
    found = [setting["lr"] for setting in rates(1e-3, 5)]
    assert found[2] == 1e-3
    assert np.allclose(np.diff(np.log10(found)), 0.25, atol=0.02)
    higher = StudyConfig().settings("bat-row", higher=2)
    assert higher[0]["lr"] == StudyConfig().settings("bat-row")[2]["lr"]


@pytest.mark.parametrize(
    ("model", "methods"), [("tiny-llama", [m for m in METHODS if m != "full"]), ("tiny-rwkv6", ["lora", "pissa", "bat-row"])]
)
def test_methods_are_compared_at_matched_numbers(model, methods):
    config = StudyConfig(model=model)

    def trained(method):
        net = models.shallow_copy(models.shared(model)).model
        start = FitConfig(**config.knobs_of(method)).of(AdapterConfig)
        add_adapter(net, start.model_copy(update={"method": "lora"} if method == "lora-ga" else {}))  # its shapes
        return sum(p.numel() for p in net.parameters() if p.requires_grad)

    of_miss = trained("miss")
    shares = {method: trained(method) / of_miss for method in methods}
    assert all(0.89 < share < 1.06 for share in shares.values()), shares


def test_reach_finds_when_a_curve_passes_anothers_end():
    def row(label, seed, losses):
        return {
            "label": label,
            "seed": seed,
            "rates": "own",
            "phase": "judge",
            "curve": [(10 * k, v) for k, v in enumerate(losses)],
        }

    records = [row("lora", 0, (5, 4, 3)), row("miss", 0, (5, 2, 1)), row("lora", 1, (5, 4, 3)), row("miss", 1, (5, 4, 3.5))]
    found = share_of_steps(records, "miss", "lora")
    assert found[0] == pytest.approx(((5 - 3) / 3 * 10) / 20)
    assert found[1] == 1.0


def test_the_toy_learns_and_refuses_what_it_cannot():
    config = toy.ToyConfig(method="miss", r=4, lr=0.01)
    (record,) = runs.stream(toy.on_toy.experiment, config)
    (short,) = runs.stream(toy.on_toy.experiment, config.replace(epochs=1))
    assert record["loss"] < 0.7 * short["loss"]
    assert record["parameters"] == 2 * 4 * 64
    with pytest.raises(ValueError, match="lora-ga"):
        list(runs.stream(toy.on_toy.experiment, config.replace(method="lora-ga")))


# -- live ------------------------------------------------------------------------------------------------------------------------


def test_training_live_goes_on_and_leaves_an_adapter(tmp_path):
    config = TrainConfig(steps=8, every=2, batch=4, samples=64, method="bat-row")
    records = list(runs.stream(get("adapters/train"), config))
    assert [r["step"] for r in records] == [0, 2, 4, 6, 8]
    assert records[0]["told"]
    assert records[-1]["told"]
    assert not records[2]["told"]
    assert max(max(map(abs, row)) for row in records[-1]["update"]) == 99
    assert sum(v * v for v in records[-1]["values"]) <= 1.0001
    folder = next((tmp_path / "runs").glob("adapters-train*")) / "artefacts"
    assert {p.name for p in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "workbench.json"}
    (asked,) = runs.stream(get("adapters/ask"), get("adapters/ask").config(**config.model_dump(), question="1 + 1 ="))
    assert asked["before"] != asked["after"]
    assert asked["right"] == "2"
    looked = list(runs.stream(get("adapters/microscope"), get("adapters/microscope").config(**config.model_dump())))
    assert len(looked) == 28
    assert looked[0]["method"] == "bat-row"


def test_microscope_of_a_folder(net, tmp_path):
    config = TrainConfig(steps=1, samples=8, batch=4)
    model = Tuner(config).model
    for p in (p for p in model.parameters() if p.requires_grad):
        p.data += 0.01
    folder = save_adapter(model, tmp_path / "mine")
    found = list(runs.stream(get("adapters/microscope"), get("adapters/microscope").config(folder=str(folder))))
    assert {r["rank99"] for r in found} == {1}  # all of it is one number


@pytest.mark.parametrize("method", ["miss", "lora", "pissa", "bat-row", "bat-col", "full"])
def test_the_microscope_sees_what_svd_sees(net, method):
    model = add_adapter(Loses(net()), AdapterConfig(method=method, r=8), batches=[batch()])
    g = torch.Generator().manual_seed(2)
    for p in (p for p in model.parameters() if p.requires_grad):
        p.data += 0.02 * torch.randn(p.shape, generator=g)
    layer = adapted(model)["net.blocks.0.up"]
    seen = {k: float(v) for k, v in examine(layer).items()}
    delta = layer.adapters["default"].delta(layer.own[0]).detach().double()
    squares = torch.linalg.svdvals(delta).square()
    held = squares.cumsum(0) / squares.sum()
    assert seen["norm"] == pytest.approx(float(delta.norm()), rel=1e-4)
    assert seen["rank90"] == int((held < 0.9).sum()) + 1
    assert seen["rank99"] == pytest.approx(int((held < 0.99).sum()) + 1, abs=1)
    U, _, Vh = torch.linalg.svd(layer.own[0].double())
    inside_ = (U[:, :32].T @ delta @ Vh[:32].T).square().sum() / delta.square().sum()
    assert seen["new"] == pytest.approx(100 * float(1 - inside_), abs=6)  # W's spectrum is flat here, its 32nd direction vague
    assert seen["along"] == pytest.approx((1 - seen["new"] / 100) * layer.own[0].numel() / 32**2, rel=1e-4)
    zero = adapted(add_adapter(net(), AdapterConfig(method="miss", r=8)))["blocks.0.up"]
    assert examine(zero)["unchanged"] == 100.0


def test_along_is_one_for_a_random_update_and_large_for_ws_own(net):
    layer = adapted(add_adapter(net(), AdapterConfig(method="full")))["blocks.0.up"]
    update, weight = layer.adapters["default"], layer.own[0].detach()
    for delta, low, high in ((torch.randn(weight.shape, generator=torch.Generator().manual_seed(7)), 0.9, 1.1), (weight, 5, 16)):
        update.weight.data = weight + 0.1 * delta
        assert low < float(examine(layer)["along"]) < high


def test_maps_keep_the_place_of_blocks_that_have_no_adapter(net):
    """An adapter on q of block 0 and on both of block 2: three blocks across, an empty cell for what is not adapted."""
    seen = {**examine(adapted(add_adapter(net(), AdapterConfig()))["blocks.0.up"]), "of": 3, "method": "miss", "trained": 9}
    records = [{**seen, "model": "it", "module": m, "block": b} for m, b in (("q_proj", 0), ("q_proj", 2), ("o_proj", 2))]
    fig = draw_microscope(records)
    axes = next(a for a in fig.axes if a.get_label() == "share")
    assert axes.images[0].get_array().shape[:2] == (2, 3)
    assert sorted(t.get_position() for t in axes.texts) == [(0, 0), (2, 0), (2, 1)]


def test_the_sum_that_was_asked_is_known():
    asked = ("23 + 48 =", "62 - 38 + 19 =", "-5 + 2 =", "What is 2 + 2?", "3 * 4 =", "7 =")
    assert [looking.total(question) for question in asked] == ["71", "43", "-3", None, None, "7"]


@pytest.mark.parametrize("method", ["lora", "lora: A tiled", "lora: A orthogonal", "miss", "mini", "bat-row", "bat-col"])
@pytest.mark.parametrize("r", [2, 16])
def test_shards_are_what_they_are_called(method, r):
    (record,) = inside.shards(inside.ShardsConfig(method=method, r=r), None)
    assert record["is_miss"] == (method in ("miss", "mini", "lora: A tiled"))
    if not method.startswith("bat"):
        assert record["rank"] <= r
    else:
        assert record["rank"] > r


def test_cost_counts():
    (record,) = inside.cost(inside.CostConfig(tokens=256, columns=1024, rows=1024, r=64), None)
    adds = dict(zip(record["labels"], record["adds"], strict=True))
    assert adds["miss"] == pytest.approx((256 * 1024 + 256 * 64 * 1024) / (256 * 1024 * 1024))
    assert adds["bat-col, as a weight"] == pytest.approx(64 * 1024 * 1024 / (256 * 1024 * 1024))
    kept = dict(zip(record["labels"], record["kept"], strict=True))
    assert kept["bat-col, as a weight"] >= 8 > kept["bat-col, built twice"] == kept["bat-row"]
    assert kept["miss"] == 256 * 64 * 4 / 2**20


def test_the_first_step_is_as_theory_says():
    (record,) = inside.step(inside.StepConfig(), None)
    moved = dict(zip(record["labels"], record["moved"], strict=True))
    assert moved["miss"] == pytest.approx(1, abs=0.01)
    assert moved["lora"] == pytest.approx(record["theory"], rel=0.1)


# -- what is written and judged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("bat-row", "full")])
def test_peft_code_builds_what_it_says(net, method, dropout):
    if dropout and method in UNDROPPED:
        pytest.skip("has no dropout")
    config = TrainConfig(method=method, r=8, dropout=dropout, targets=("up", "down"), lr=0.01, ratio=4.0)
    found = {"model": net()}
    x = batch()["x"]
    found["train_step"] = lambda: found["model"](x.clone().requires_grad_()).square().mean().backward()
    exec(peft_code.in_peft(config), found)
    ours = add_adapter(Loses(net()), config.of(AdapterConfig), batches=[batch()])
    theirs = found["model"]
    count = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (theirs, ours)]
    assert count[0] == count[1]
    assert torch.allclose(theirs.eval()(x), net()(x), atol=1e-5)
    assert {m.p for m in theirs.modules() if isinstance(m, torch.nn.Dropout)} == ({dropout} if dropout else set())
    assert type(next(iter(theirs.peft_config.values()))).__name__ in peft_code.in_peft(config)
    if method == "lora+":
        assert {g["lr"] for g in found["optimizer"].param_groups if g["params"]} == {0.01, 0.04}
    if method == "lora-ga":
        assert all(p.abs().sum() > 0 for name, p in theirs.named_parameters() if "lora_B" in name)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, within PEFT
@pytest.mark.parametrize("method", ["miss", "lora", "lora+"])
def test_the_program_of_the_panel_is_complete(method, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    code = peft_code.program(TrainConfig.at("smoke", method=method, steps=12, lr=0.003))
    found = {}
    exec(code, found)
    assert (tmp_path / "my-adapter" / "adapter_config.json").exists()
    assert found["loss"].item() < 3.0, "it learns: the loss begins above 8"
    assert peft_code.program(TrainConfig(method="full")) == ""
    assert "PEFT has no" in peft_code.program(TrainConfig(method="bat-row"))


def test_peft_code_names_the_layers_where_peft_cannot_find_them():
    assert "'receptance'" in peft_code.in_peft(TrainConfig(model="tiny-rwkv6"))
    assert "all-linear" in peft_code.in_peft(TrainConfig())
    assert "_niter_4" in peft_code.in_peft(TrainConfig(method="pissa", iterations=4))
    assert "also uses the scale of PEFT" in peft_code.in_peft(TrainConfig(method="lora-ga", compat="peft"))


def test_peft_code_of_what_it_has_not():
    assert "no Bat-row" in peft_code.in_peft(TrainConfig(method="bat-row"))
    assert peft_code.in_peft(TrainConfig(method="full")) == ""


def test_the_papers_tables_stand_beside_ours(monkeypatch):
    table = paper_tables.results()
    assert list(table.columns) == ["LoRA", "DoRA", "PiSSA", "MiSS", "ahead"]
    assert table.loc[("paper", "Mistral-7B", "MBPP"), "MiSS"] == 61.33
    assert table.loc[("paper", "Qwen3-4B", "GSM8K"), "ahead"] == "PiSSA"
    assert table.loc[("paper", "RWKV6-7B", "MATH"), "DoRA"] == "-"
    own = table.loc[("here", "tiny llama", "loss on sums, each at its own rate")]
    found = scores(at(papers.reference_records("adapters/methods"), rates="own"), "loss", label="miss")
    assert own["MiSS"] == round(found.mean(), 3)
    assert own["ahead"] == min(("LoRA", "DoRA", "PiSSA", "MiSS"), key=own.get)
    ranks = paper_tables.ranks()
    assert ranks.loc[("paper", "LLaMA2-7B", "GSM8K"), "128"] == 53.49
    assert ranks.loc[("here", "tiny llama", "loss on sums, each rank at its own rate"), "128"] == "-"
    monkeypatch.setattr(papers, "reference_records", lambda name: None)
    assert set(paper_tables.results().index.get_level_values("from")) == {"paper"}


def test_measures_have_a_column_for_what_was_measured():
    table = tables.measures(papers.reference_records("adapters/methods"))
    assert table.loc["DoRA", "peak, MiB"] > table.loc["MiSS", "peak, MiB"] > table.loc["MiSS", "kept, MiB"]
    assert table[tables.REACHED].between(0.5, 1).all()
    assert "final, %" not in table, "sums have no worked answers"


def test_peak_is_of_what_lives_at_once():
    x = torch.randn(1000, 100)
    with looking.Alive() as alive:
        a = x @ x.T  # 4 MB
        b = a[:, :500].exp()  # 2 MB
        a.add_(1)
        del a
        c = b.clone()
        del b
    assert alive.most == 6_000_000
    assert alive.now == 2_000_000
    del c
    assert alive.now == 0


def test_parameter_table_marks_the_papers_errors():
    table = tables.parameters()
    assert dict(table["differs"]) == {
        "LLaMA2-7B": "-", "Mistral-7B": "MiSS", "RWKV6-7B": "-", "Qwen3-4B": "MiSS", "LLaMA2-13B": "MiSS"
    }  # fmt: skip
    assert tables.count(tables.MODELS["LLaMA2-7B"], "bat-row", 64) == pytest.approx(72.88, abs=0.01)


def test_exercises_have_answers():
    answers = [e.answer() for e in EXERCISES["adapters"]]
    assert answers[0] == pytest.approx(88.08, abs=0.01)
    assert answers[1] == pytest.approx(0.087, abs=0.001)
    assert answers[2] == "d"
    assert set(exercises.LINES) == set("abcd")


def test_every_claim_is_judged_at_smoke_or_says_why():
    assert len({c.id for c in papers.claims("adapters")}) >= 18
    assert len(papers.reported("adapters")) >= 10


def test_questions_can_be_answered():
    for question in (*questions.TRAIN, *questions.SHARDS):
        assert len(question.answers) == 3
        get("adapters/train" if question in questions.TRAIN else "adapters/shards").config(**question.knobs)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from workbench import runs, training
from workbench import models
from workbench.experiment import get
training.SAVE_EVERY = 0.0
train = get("adapters/train")
config = train.config(method="bat-row", steps=120, every=3, batch=4, samples=64, dropout=0.0)
models.shared(config.model)  # once for all children
def go(root):
    for _ in runs.stream(train, config, root):
        pass
    (folder,) = root.glob("adapters-train*")
    return {p.name: p.read_bytes() for p in (folder / "records.jsonl", *folder.glob("artefacts/*"))}
def killed(name, tells, stops, wait):
    hear, tell = os.pipe()
    child = os.fork()
    if not child:
        replace, seen = os.replace, 0
        def counted(written, path):
            nonlocal seen
            if Path(path).name == name:
                seen += 1
                if seen == tells:
                    os.write(tell, b".")
                if seen == stops:
                    time.sleep(1000)
            replace(written, path)
        os.replace = counted
        if not tells:
            os.write(tell, b".")
        go(root / "cut")
        os._exit(0)
    os.close(tell)
    told = os.read(hear, 1)  # nothing where it has ended
    os.close(hear)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1]) and told == b"."
root, random, cut = Path(sys.argv[1]), random.Random(0), 0
for _ in range(16):
    checkpoints = random.randrange(3)
    cut += killed("checkpoint.pt", checkpoints, checkpoints + 1, random.uniform(0, 0.1))
for name in ("adapter_model.safetensors", "adapter_config.json", "checkpoint.pt", "run.json"):
    cut += killed(name, 1, 1, 0)
print(cut, go(root / "cut") == go(root / "whole"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks to be killed")
def test_killed_twenty_times_training_ends_with_the_same_adapter(tmp_path):
    """At a random moment before the next checkpoint (there it waits), and with each of the last files written, not yet named."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=True)
    assert done.stdout.split() == ["20", "True"]


def test_any_config_of_peft_is_a_point(monkeypatch):
    config = FitConfig(**QUICK, peft='{"peft_type": "vera", "r": 16}', lr=0.03)
    (record,) = runs.stream(on_questions.experiment, config)
    assert record["loss"] > 0
    assert record["parameters"] < 10_000
    for text, message in (
        ("{", "expected a PEFT config as JSON"),
        ('{"r": 4}', "such as"),
        ('{"peft_type": "NONE"}', "PEFT rejects this config"),
    ):
        with pytest.raises(KnobError, match=message):
            list(runs.stream(on_questions.experiment, config.replace(peft=text)))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(KnobError, match="pip install peft"):
        list(runs.stream(on_questions.experiment, config.replace(steps=5)))


def test_a_peft_point_stands_beside_the_methods():
    config = studies.methods.config.at("smoke", peft='{"peft_type": "VERA", "r": 16}')
    labels = [point.label for point in studies.methods(config)]
    assert labels[-2:] == ["PEFT VERA"] * 2
