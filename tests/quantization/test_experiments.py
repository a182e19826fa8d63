"""The experiments on real layers: records, figures at every stage, the objective, the layer's two streams."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from drawing import runs_and_draws

from workbench import blocks, datasets, models, runs
from workbench.blocks import blocks_of
from workbench.experiment import discover, get
from workbench.quantization import METHODS, layer_statistics, quantize_layer
from workbench.quantization.lab import layers
from workbench.quantization.lab.experiments import TwoWeightsConfig, round_two
from workbench.quantization.lab.inside import r2_contributions, second_matrix, second_matrix_closed, small_layer, update_terms
from workbench.quantization.lab.layer_config import LayerConfig
from workbench.quantization.lab.layers import LayerSource, load_layer
from workbench.quantization.lab.studies import quantized
from workbench.quantization.objective import Objective

SOLVER = (("bits", 3), ("group_size", 32))
SMALL = {"model": "tiny-llama", "block": 1, "part": "o_proj", "tokens": 512}


def forget():
    layers._load_layer.cache_clear()
    layers._streams.cache_clear()


NAMES = [n for n in discover() if n.startswith("quantization/")]


@pytest.fixture(scope="module")
def real():
    return load_layer(LayerSource("tiny-llama", 2, "down_proj", tokens=2048, upstream_solver=SOLVER))


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_runs_and_draws_at_every_stage(name):
    experiment = get(name)
    more = SMALL | {"every": 16} if name.endswith("trace") else {}
    runs_and_draws(experiment, experiment.config.at("smoke", **more))


@pytest.mark.parametrize("changes", [{"every": 7}, {"every": 200}, {"compat": "published"}, {"group_size": 100}, {"bits": 16}])
def test_the_trace_ends_where_the_solver_does(changes):
    trace = get("quantization/layer-trace")
    config = trace.config(**{**SMALL, "group_size": 32, "every": 16, **changes})
    records = list(runs.stream(trace, config))
    last = records[-1]
    assert last["columns"] == last["of"] == 128
    if config.bits < 16:
        assert len(records) == trace.steps(config)
        assert sum(len(r.get("column_error", ())) for r in records) == 128
        assert all(len(r["row"]) == 128 for r in records)
    layer = load_layer(config.source())
    moments = layer_statistics(layer.inputs, layer.full_precision)
    names = ("method", "bits", "group_size", "compat", "block_size")
    whole = quantize_layer(layer.weight, *moments, **{n: getattr(config, n) for n in names})
    error = Objective(layer.weight, layer.inputs, layer.full_precision).error(whole.weight)
    assert last["error"] == pytest.approx(error, rel=2e-2 if config.compat == "clean" else 1e-5)


def test_a_trace_is_the_same_bytes_twice(tmp_path):
    trace = get("quantization/layer-trace")
    config = trace.config(**SMALL)
    for root in ("a", "b"):
        list(runs.stream(trace, config, tmp_path / root))
    one, two = (p.read_bytes() for p in sorted(tmp_path.rglob("records.jsonl")))
    assert one == two


def test_a_comparison_goes_on_where_it_was_cut(tmp_path):
    terms = get("quantization/terms")
    config = terms.config.at("smoke", parts="o_proj", blocks="1", seeds=1)
    stream = runs.stream(terms, config, tmp_path / "cut")
    for _ in range(5):
        next(stream)
    stream.close()
    cut, whole = (list(runs.stream(terms, config, tmp_path / root)) for root in ("cut", "uncut"))
    assert cut == whole


def test_the_objective_is_the_norm_it_says(real):
    w, x, reference = (t.double() for t in (real.weight, real.inputs, real.full_precision))
    objective = Objective(real.weight, real.inputs, real.full_precision)
    for method in METHODS:
        q = quantize_layer(real.weight, *layer_statistics(real.inputs, real.full_precision), method=method).weight
        direct = ((x @ q.double().T - reference @ w.T).norm() / (reference @ w.T).norm()).item()
        assert objective.error(q) == pytest.approx(direct, rel=1e-9)
        floor, rounding = objective.floor_and_rounding(q)
        assert floor**2 + rounding**2 == pytest.approx(objective.error(q) ** 2, rel=1e-9)
    best = torch.linalg.lstsq(x, reference @ w.T).solution.T
    assert floor == pytest.approx(objective.error(best), rel=1e-9)


def test_residuals_and_their_orthogonal_parts(real):
    w, x, reference = (t.double() for t in (real.weight, real.inputs, real.full_precision))
    objective = Objective(real.weight, real.inputs, real.full_precision)
    half = quantize_layer(real.weight, objective.hessian.float(), method="rtn").weight.double()
    size = (reference @ w.T).norm()
    for free in (torch.arange(384), torch.arange(100, 384), torch.tensor([], dtype=torch.long)):
        for found, r in zip(objective.residuals(half, free), ((reference - x) @ half.T, reference @ (w - half).T), strict=True):
            fit = x[:, free] @ torch.linalg.lstsq(x[:, free], r).solution if len(free) else torch.zeros_like(r)
            assert found.norm == pytest.approx((r.norm() / size).item(), rel=1e-9)
            assert found.orthogonal == pytest.approx(((r - fit).norm() / size).item(), rel=1e-4)


def test_the_streams_are_the_models_own(real):
    """The full-precision stream is what the model's own forward pass feeds the layer."""
    lm = models.shared("tiny-llama")
    caught = []
    layer = blocks_of(lm)[2].mlp.down_proj
    handle = layer.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    ids = models.token_ids(lm, datasets.load("prose-calibration"), 256)
    with torch.no_grad():
        lm.model(input_ids=ids[None])
    handle.remove()
    torch.testing.assert_close(caught[0][0], real.full_precision[:256], atol=1e-5, rtol=1e-4)
    assert torch.equal(real.weight, layer.weight)
    assert (real.inputs - real.full_precision).norm() / real.full_precision.norm() > 0.05


def test_upstream_none_means_equal_streams_and_the_first_layer_has_them():
    none = load_layer(LayerSource("tiny-llama", 2, "o_proj", tokens=512, upstream="none"))
    first = load_layer(LayerSource("tiny-llama", 0, "v_proj", tokens=512, upstream_solver=SOLVER))
    later = load_layer(LayerSource("tiny-llama", 0, "o_proj", tokens=512, upstream_solver=SOLVER))
    for layer in (none, first):
        assert torch.equal(layer.inputs, layer.full_precision)
        assert torch.equal(layer.held_out, layer.held_out_full_precision)
    assert not torch.equal(later.inputs, later.full_precision)


def test_other_seeds_are_other_tokens_and_held_out_stays():
    one, two = (load_layer(LayerSource("tiny-llama", 0, "q_proj", tokens=512, skip=s)) for s in (0, 16))
    assert not torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.held_out, two.held_out)


def test_damaged_activations_are_computed_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    source = LayerSource("tiny-llama", 0, "k_proj", tokens=256)
    good = load_layer(source)
    forget()
    (path,) = (tmp_path / "activations").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    again = load_layer(source)
    assert "are damaged" in capsys.readouterr().err
    assert torch.equal(again.inputs, good.inputs)


EMULATED = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "2",
}
JUDGED = """
import json
from workbench.quantization.config import METHODS
from workbench.quantization.lab.layer_config import LayerConfig
from workbench.quantization.lab.studies import quantized
config = LayerConfig(model="tiny-llama", block=2, part="down_proj", tokens=1024, bits=2, group_size=32, dtype="float64")
made = [config.replace(method=method) for method in METHODS]
print(json.dumps([next(quantized.experiment.generate(c, None)) for c in made]))
"""


def test_what_is_judged_is_the_same_on_another_processor(tmp_path):
    """All digits that are kept, on one thread or two and on two instruction sets."""
    found = []
    for number, more in enumerate(({"OMP_NUM_THREADS": "1"}, EMULATED)):
        env = {**os.environ, **more, "WORKBENCH_CACHE": str(tmp_path / str(number))}
        said = subprocess.run([sys.executable, "-c", JUDGED], capture_output=True, text=True, env=env)
        assert said.returncode == 0, said.stderr
        found.append(json.loads(said.stdout))
    assert found[0] == found[1]
    assert len(found[0]) == len(METHODS)


def test_a_float64_model_stays_in_float64():
    """Norms and rotary angles too, which go down to float32 in the model's own code."""
    lm = models.shared("tiny-llama", torch.float64)
    ids = models.token_ids(lm, datasets.load("prose-calibration"), 256)[None]
    ours = blocks.block_inputs(lm, blocks_of(lm)[0], ids)
    after = blocks.advance(blocks_of(lm)[0], ours)[0][0]
    single = models.shared("tiny-llama")
    theirs = blocks.advance(blocks_of(single)[0], blocks.block_inputs(single, blocks_of(single)[0], ids))[0][0]
    assert after.dtype == torch.float64
    torch.testing.assert_close(after.float(), theirs, atol=1e-4, rtol=1e-4)
    assert ours[0][1][0][1]["position_embeddings"][0].dtype == torch.float64
    one_way = blocks.advance(blocks_of(lm)[0], [(ours[0][0] * (1 + 1e-12), ours[0][1])])[0][0]
    moved = ((one_way - after).norm() / after.norm()).item()
    assert 1e-14 < moved < 1e-10, "rounded to float32 on the way, so small a change would vanish or grow"


def test_validation_text_is_neither_calibration_nor_test_text(real):
    assert real.validation.shape == real.held_out.shape == (2048, 384)
    assert not torch.equal(real.validation, real.held_out)
    lm = models.shared("tiny-llama")
    ids = models.token_ids(lm, datasets.load("prose-evaluation"), 4096)
    first = blocks.block_inputs(lm, blocks_of(lm)[0], ids[2048:2304][None])
    source = LayerSource("tiny-llama", 0, "q_proj", tokens=256)
    expected = blocks.inputs_of(blocks_of(lm)[0], ["self_attn.q_proj"], first)["self_attn.q_proj"]
    torch.testing.assert_close(load_layer(source).validation[:256], expected)


def test_what_reaches_the_layers_before_matters_for_plain_rounding_too():
    config = LayerConfig(**SMALL, method="rtn", bits=2)
    assert not {"damping", "act_order"} & {*config.idle()}
    assert "damping" in config.replace(upstream_damping=0.01).idle()
    assert {"damping", "act_order", "upstream_damping"} <= {*config.replace(upstream="none").idle()}
    before = next(quantized.experiment.generate(config, None))
    assert before != next(quantized.experiment.generate(config.replace(damping=0.5), None))
    for name, value in (("alpha", 0.9), ("block_size", 16), ("rho", 0.3), ("compat", "published")):
        assert name in config.idle()
        assert before == next(quantized.experiment.generate(config.replace(**{name: value}), None)), name


def test_two_threads_do_not_mix_their_activations(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    sources = [LayerSource("tiny-llama", block, "o_proj", tokens=512, upstream_solver=SOLVER) for block in (0, 1, 2, 3)]
    forget()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(load_layer, sources))
    for path in (tmp_path / "activations").iterdir():
        path.unlink()
    forget()
    for source, found in zip(sources, together, strict=True):
        assert torch.equal(load_layer(source).inputs, found.inputs)
        assert len(found.held_out_full_precision) == 2048


def test_models_that_cannot_be_quantized_say_so(tmp_path):
    with pytest.raises(ValueError, match="block=4: expected the index of a block of tiny-llama, from 0 to 3"):
        load_layer(LayerSource("tiny-llama", 4, "q_proj"))
    with pytest.raises(ValueError, match="expected a linear layer of tiny-llama: q_proj, k_proj"):
        load_layer(LayerSource("tiny-llama", 0, "head"))
    with pytest.raises(ValueError, match="at least one window of 256"):
        load_layer(LayerSource("tiny-llama", 0, "q_proj", tokens=100))
    lm = models.LanguageModel("empty", torch.nn.Sequential(torch.nn.Embedding(4, 4)), None)
    with pytest.raises(ValueError, match="no transformer blocks with linear layers"):
        blocks_of(lm)


def test_gpt2s_transposed_layers_are_layers_too(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=2048, n_positions=256)).save_pretrained(
        tmp_path / "gpt2"
    )
    models.load(models.TINY).tokenizer.save_pretrained(tmp_path / "gpt2")
    layer = load_layer(LayerSource(str(tmp_path / "gpt2"), 1, "c_fc", tokens=512, upstream_solver=SOLVER))
    assert layer.weight.shape == (128, 32)
    assert layer.inputs.shape == (512, 32)
    assert not torch.equal(layer.inputs, layer.full_precision)


# -- what the teaching notebook shows ---------------------------------------------------------------------------------


def test_r2_vanishes_whole_and_not_decomposed():
    r2 = r2_contributions(small_layer(8))
    assert r2.whole < 1e-12
    assert r2.decomposed > 1e-3


def test_the_second_matrix_needs_no_product():
    layer = small_layer(12, damping=0.01)
    full = second_matrix(layer.hessian, layer.cross, layer.upper)
    torch.testing.assert_close(full, second_matrix_closed(layer.cross, layer.upper), atol=1e-12, rtol=0)


@pytest.mark.parametrize("column", [0, 3, 30])
def test_the_fused_update_is_the_sum_of_its_terms(column):
    t = update_terms(small_layer(32), column, row=2, bits=3, alpha=0.7, beta=0.4)
    torch.testing.assert_close(t["fused"], t["gptq"] + t["r1"] + t["r2"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", ["gptq", "gptaq", "exact"])
def test_two_weights_by_hand_are_the_solvers(method):
    from workbench.quantization.lab.experiments import two_weight_statistics

    for config in (TwoWeightsConfig(), TwoWeightsConfig(w1=-0.7, w2=1.2, correlation=-0.5, shift=0.3, alpha=0.5)):
        weight, hessian, cross = two_weight_statistics(config)
        weight = torch.cat([weight, torch.full((1, 2), 7.0, dtype=torch.float64)])
        # a grid of step 1: 4 bits over a row whose largest weight is 7
        both = torch.cat([weight, torch.tensor([[7.0], [7.0]], dtype=torch.float64)], 1)
        h, d = torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
        h[:2, :2], d[:2, :2] = hessian, cross
        found = quantize_layer(both, h, d, method=method, bits=4, damping=0.0, alpha=config.alpha).weight[0, :2]
        if method != "exact":  # whose grid is fitted on the shifted weights
            assert found.tolist() == round_two(config, method)[1]
        else:
            assert round_two(config, method)[1] == [round(v) for v in round_two(config, method)[0]]
