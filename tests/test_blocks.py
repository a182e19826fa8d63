"""Tests of computing a model block by block: it equals the model's own forward pass (observed by hooks) or is rejected."""

import shutil

import pytest
import torch
import transformers as tf
from torch import nn

from workbench import blocks, datasets, models
from workbench.quantization.lab.layers import LayerSource, load_layer

SHAPE = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
TURNS = ["sliding_attention", "full_attention"] * 2
MADE = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SHAPE)),
    "gemma2, a window in every other block": lambda: tf.Gemma2ForCausalLM(
        tf.Gemma2Config(**SHAPE, head_dim=8, sliding_window=16)
    ),
    "gemma3, angles that differ": lambda: tf.Gemma3ForCausalLM(
        tf.Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=512, layer_types=TURNS)
    ),
    "qwen3, a window in the last blocks": lambda: tf.Qwen3ForCausalLM(
        tf.Qwen3Config(**SHAPE, head_dim=8, use_sliding_window=True, sliding_window=16, max_window_layers=2)
    ),
    "cohere2, without angles in every other block": lambda: tf.Cohere2ForCausalLM(
        tf.Cohere2Config(**SHAPE, sliding_window=16, layer_types=TURNS)
    ),
    "llama 4, attention in chunks": lambda: tf.Llama4ForCausalLM(
        tf.Llama4TextConfig(**SHAPE, intermediate_size_mlp=48, head_dim=8, num_local_experts=2, attention_chunk_size=16)
    ),
    "gpt-neo, local and global": lambda: tf.GPTNeoForCausalLM(
        tf.GPTNeoConfig(
            vocab_size=97,
            hidden_size=32,
            num_layers=4,
            num_heads=4,
            attention_types=[[["global", "local"], 2]],
            window_size=16,
            intermediate_size=48,
        )
    ),
    "gpt-j, whose blocks return a tuple": lambda: tf.GPTJForCausalLM(
        tf.GPTJConfig(vocab_size=97, n_embd=32, n_layer=3, n_head=4, rotary_dim=4)
    ),
    "mamba, without attention": lambda: tf.MambaForCausalLM(
        tf.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=3, state_size=4)
    ),
}


def wide(made):
    """Return a model with 4 times larger initial weights; at the usual size, attention is almost uniform over the tokens."""
    torch.manual_seed(0)
    model = made().eval().requires_grad_(False)
    for p in model.parameters():
        if p.ndim > 1:
            p.data *= 4
    return model


def of_itself(model, stack, ids):
    """Return the hidden states that enter each block in the model's own forward pass."""
    found = {}

    def keep(number):
        def hook(_, args, kwargs):
            found[number] = (args[0] if args else kwargs["hidden_states"]).clone()

        return hook

    handles = [b.register_forward_pre_hook(keep(k), with_kwargs=True) for k, b in enumerate(stack)]
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return [found[k] for k in range(len(stack))]


@pytest.mark.filterwarnings("ignore:.*sequential implementation")
@pytest.mark.parametrize("name", [*MADE])
def test_each_block_gets_what_the_model_gives_it(name):
    model = wide(MADE[name])
    lm = models.LanguageModel(name, model, None)
    stack = blocks.blocks_of(lm)
    before = [*map(vars, stack)]
    ids = torch.randint(97, (3, 64), generator=torch.Generator().manual_seed(0))
    stream = blocks.block_inputs(lm, stack[0], ids)
    assert ["forward" in one for one in before] == [False] * len(stack), "the blocks' own forward methods are restored"
    wanted = [of_itself(model, stack, window[None]) for window in ids]
    for number, block in enumerate(stack):
        for (hidden, _), own in zip(stream, wanted, strict=True):
            assert torch.allclose(hidden, own[number], rtol=1e-5, atol=1e-5 * own[number].abs().max())
        late = blocks.block_inputs(lm, block, ids[:1])[0][0]
        assert torch.allclose(late, wanted[0][number], rtol=1e-5, atol=1e-5 * late.abs().max())
        stream = blocks.advance(block, stream)


def test_the_blocks_of_these_models_do_differ():
    """Check that the test above is sensitive: if all blocks get the arguments of block 0, the last block's input is wrong."""
    for name in ("gemma2, a window in every other block", "qwen3, a window in the last blocks"):
        model = wide(MADE[name])
        lm = models.LanguageModel(name, model, None)
        stack = blocks.blocks_of(lm)
        ids = torch.randint(97, (1, 64), generator=torch.Generator().manual_seed(0))
        stream = blocks.block_inputs(lm, stack[0], ids)
        stream = [(hidden, [calls[0]] * len(calls)) for hidden, calls in stream]
        for block in stack[:-1]:
            stream = blocks.advance(block, stream)
        own = of_itself(model, stack, ids)[-1]
        assert (stream[0][0] - own).norm() > 0.1 * own.norm()


class Layer(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.linear, self.factor = nn.Linear(8, 8), factor

    def forward(self, x, gain, *, shift=0.0):
        return (x + self.factor * torch.tanh(self.linear(x)) * gain + shift,)


class Own(nn.Module):
    """A custom model that passes arguments to its blocks by position and by name; `how` names its unusual behaviour."""

    def __init__(self, how=""):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.how, self.calls = nn.Embedding(97, 8), how, 0
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.device = torch.device("cpu")

    def forward(self, input_ids, use_cache=False):
        x = self.embedding(input_ids)
        for number, layer in enumerate(self.layers):
            gain = x.mean() if self.how == "given what others computed" else torch.tensor(1.0 + number)
            if self.how == "skipped" and number == 1:
                continue
            (x,) = layer(x, gain, shift=0.1 * number)
            if self.how == "twice":
                (x,) = layer(x, gain)
            if self.how == "changed between":
                x = 2 * x
        return x


def test_arguments_by_place_are_kept():
    model = Own().eval()
    lm = models.LanguageModel("own", model, None)
    ids = torch.arange(20)[None]
    stream = blocks.block_inputs(lm, model.layers[0], ids)
    for layer in model.layers:
        stream = blocks.advance(layer, stream)
    assert torch.equal(stream[0][0], model(ids))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("given what others computed", "an argument of block 1 depends on the outputs of earlier blocks"),
        ("skipped", "does not call each block exactly once and in order"),
        ("twice", "does not call each block exactly once and in order"),
        ("changed between", "the input of block 1 is not the output of block 0"),
    ],
)
def test_a_model_that_is_no_chain_of_blocks_is_refused(how, said):
    model = Own(how).eval()
    for _ in range(2):  # it must be rejected on the second call too
        with pytest.raises(ValueError, match=f"'own' cannot be computed block by block: .*{said}"):
            blocks.block_inputs(models.LanguageModel("own", model, None), model.layers[0], torch.arange(20)[None])
    assert not any("forward" in vars(layer) for layer in model.layers)


def test_a_block_that_keeps_a_state_of_its_own_is_refused():
    class Counts(Layer):
        def forward(self, x, gain, *, shift=0.0):
            self.factor += 1
            return super().forward(x, gain, shift=shift)

    model = Own().eval()
    model.layers[1] = Counts()
    with pytest.raises(ValueError, match="block 1 returns a different output when it is called again"):
        blocks.block_inputs(models.LanguageModel("own", model, None), model.layers[0], torch.arange(20)[None])


def test_a_layer_of_a_model_with_windows_has_the_models_own_inputs(tmp_path, monkeypatch):
    """Compute a layer's inputs from the folder of a model, as the panels do."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    shape = {**SHAPE, "vocab_size": 2048}
    model = wide(lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**shape, head_dim=8, sliding_window=16)))
    model.save_pretrained(tmp_path / "model")
    for file in models.find("tiny-llama").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "model")
    layer = load_layer(LayerSource(str(tmp_path / "model"), 3, "q_proj", tokens=256, window=128, upstream="none"))
    lm = models.load(str(tmp_path / "model"))
    ids = models.token_ids(lm, datasets.load("prose-calibration"), 256).view(2, 128)
    seen = []
    lm.model.model.layers[3].self_attn.q_proj.register_forward_pre_hook(lambda _, a: seen.append(a[0][0]))
    with torch.no_grad():
        for window in ids:
            lm.model(input_ids=window[None], use_cache=False)
    assert torch.allclose(layer.inputs, torch.cat(seen), rtol=1e-4, atol=1e-4)
