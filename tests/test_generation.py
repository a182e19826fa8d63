"""Tests of text generation: families of models against transformers' generate, in batches, after a prefix, and streamed."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
import transformers as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as vocabularies
from transformers import PreTrainedTokenizerFast

from workbench import decoding, models
from workbench.chats import chat_text, prompt_tokens
from workbench.generation import generate, generate_batch, read, stream
from workbench.models import LanguageModel
from workbench.rwkv6 import RWKV6, initialise

SIZES = {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 4}
HEADS = {**SIZES, "intermediate_size": 48, "num_attention_heads": 4}
LLAMA = {**HEADS, "num_key_value_heads": 2, "max_position_embeddings": 512}
GEMMA = {**LLAMA, "head_dim": 8, "sliding_window": 8, "pad_token_id": 0}
GPT = {"vocab_size": 260, "n_embd": 32, "n_layer": 3, "n_head": 4}
TURNS = ["sliding_attention", "full_attention"] * 2
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
STATES = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2}
FAMILIES = {
    "llama": (tf.LlamaForCausalLM, tf.LlamaConfig(**LLAMA)),
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig(**LLAMA, sliding_window=8)),
    "qwen2": (tf.Qwen2ForCausalLM, tf.Qwen2Config(**LLAMA)),
    "gemma2": (tf.Gemma2ForCausalLM, tf.Gemma2Config(**GEMMA)),
    "gemma3": (tf.Gemma3ForCausalLM, tf.Gemma3TextConfig(**GEMMA, layer_types=TURNS)),
    "gpt2": (tf.GPT2LMHeadModel, tf.GPT2Config(**GPT, n_positions=512)),
    "neox": (tf.GPTNeoXForCausalLM, tf.GPTNeoXConfig(**HEADS)),
    "bloom": (tf.BloomForCausalLM, tf.BloomConfig(vocab_size=260, hidden_size=32, n_layer=3, n_head=4)),
    "opt": (tf.OPTForCausalLM, tf.OPTConfig(**SIZES, ffn_dim=48, num_attention_heads=4, word_embed_proj_dim=32)),
    "mamba": (tf.MambaForCausalLM, tf.MambaConfig(**SIZES, state_size=4)),
    "qwen3-next": (tf.Qwen3NextForCausalLM, tf.Qwen3NextConfig(**LLAMA, head_dim=8, **EXPERTS, **STATES)),
}
PADS = {"llama", "qwen2", "gpt2", "neox", "opt"}
PROMPTS = ["one", "a longer prompt, of many bytes", "twelve bytes", "twelve more."]
SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}


def by_bytes():
    """Return a tokenizer of single bytes whose ids are not special tokens of any model family."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    first = {f"<{k}>": k for k in range(3)}
    made = Tokenizer(vocabularies.BPE(first | {letter: 3 + k for k, letter in enumerate(letters)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    return PreTrainedTokenizerFast(tokenizer_object=made)


def language_model(name):
    torch.manual_seed(0)
    if name == "rwkv6":
        model = initialise(RWKV6(260, 64, 3, 32, lerp_rank=8, decay_rank=16))
        model.generation_config = None
    else:
        kind, config = FAMILIES[name]
        config.tie_word_embeddings = False  # with tied embeddings, an untrained model repeats its input
        model = kind(config)
        model.generation_config.eos_token_id = None
    with torch.no_grad():  # otherwise most models generate a single token for any input
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.3)
    return LanguageModel(name, model.eval(), by_bytes())


def by_transformers(lm, prompt, tokens):
    """Return the ids that the model's own `generate` method decodes greedily for one prompt (RWKV6 implements its own)."""
    ids = torch.tensor([lm.tokenizer(prompt)["input_ids"]])
    out = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("name", [*FAMILIES, "rwkv6"])
def test_every_family_writes_what_its_own_generate_writes(name):
    """Test single prompts, a batch of prompts of different lengths, and a prefix, with more tokens than the sliding window."""
    lm = language_model(name)
    wanted = [lm.tokenizer.decode(by_transformers(lm, prompt, 24), skip_special_tokens=True) for prompt in PROMPTS]
    assert len(set(wanted)) == len(wanted)
    assert [generate(lm, prompt, 24).text for prompt in PROMPTS] == wanted
    assert [reply.text for reply in generate_batch(lm, PROMPTS, 24, size=3)] == wanted
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        prefix = read(lm, "twelve ")
    assert ["cannot continue from the cache of a prefix" in str(w.message) for w in told] == ([True] if name == "mamba" else [])
    assert [reply.text for reply in generate_batch(lm, PROMPTS[2:], 24, prefix=prefix)] == wanted[2:]
    assert generate(lm, PROMPTS[2], 24, prefix=prefix).text == wanted[2], "generation changed the prefix"
    assert "".join(stream(lm, PROMPTS[0], 24)) == wanted[0]


@pytest.mark.parametrize("name", [*FAMILIES, "rwkv6"])
def test_prompts_are_padded_only_where_that_changes_nothing(name, monkeypatch):
    lm, sizes, step = language_model(name), [], decoding.step

    def seen(model, ids, cache, mask=None):
        sizes.append((len(ids), mask is not None))
        return step(model, ids, cache, mask)

    decoding.pads_exactly(lm)
    monkeypatch.setattr(decoding, "step", seen)
    generate_batch(lm, PROMPTS, 2)
    begun = [sizes[k] for k in range(0, len(sizes), 2)]
    # two of the four prompts have the same number of tokens
    assert begun == ([(4, True)] if name in PADS else [(1, False), (2, False), (1, False)])


def test_a_prefix_spares_its_tokens(monkeypatch):
    lm, lengths, step = language_model("llama"), [], decoding.step

    def seen(model, ids, cache, mask=None):
        lengths.append(ids.shape[1])
        return step(model, ids, cache, mask)

    prefix = read(lm, "x" * 200)
    monkeypatch.setattr(decoding, "step", seen)
    generate(lm, "x" * 200 + "and more", 3, prefix=prefix)
    assert lengths == [decoding.FEW, 9, 1, 1]  # the first pass checks that the model has not changed


def test_a_prefix_whose_last_token_joins_what_follows_changes_nothing():
    lm = models.shared(models.TINY)
    text = "The whale was in the wat"
    assert lm.prompt_ids([text + "er and"])[0][: len(lm.prompt_ids([text])[0])] != lm.prompt_ids([text])[0]
    assert generate(lm, text + "er and", 8, prefix=read(lm, text)) == generate(lm, text + "er and", 8)
    one = read(lm, "T")
    assert generate(lm, "The whale", 4, prefix=one) == generate(lm, "The whale", 4)


@pytest.mark.parametrize("how", ["fused AdamW", "data", "a buffer", "an adapter that is switched off"])
def test_a_prefix_is_refused_after_the_model_has_changed(how):
    lm = models.load(models.TINY)
    if "adapter" in how:
        from workbench.adapters import AdapterConfig, add_adapter, set_adapter

        add_adapter(lm.model, AdapterConfig(method="full"))
        next(p for p in lm.model.parameters() if p.requires_grad).data.mul_(1.5)
    prefix = read(lm, "The whale was in the sea")
    assert generate(lm, "The whale was in the sea, and", 4, prefix=prefix).text
    p = next(iter(lm.model.parameters()))
    if how == "fused AdamW":
        p.requires_grad_(True).grad = torch.ones_like(p)
        torch.optim.AdamW([p], 0.01, fused=True).step()
    elif how == "data":
        p.data.mul_(1.01)
    elif how == "a buffer":
        next(iter(lm.model.buffers())).mul_(1.1)
    else:
        set_adapter(lm.model, None)
    with pytest.raises(ValueError, match="the model has changed since it read the prefix"):
        generate(lm, "The whale was in the sea, and", 4, prefix=prefix)
    with pytest.raises(ValueError, match="does not begin with the prefix 'The whale was in the sea'"):
        generate(lm, "A whale", 2, prefix=prefix)


def test_angles_that_depend_on_the_length_of_the_text_are_those_of_its_whole():
    """As in transformers' `generate`, a longrope model needs a new cache beyond its original context length."""
    scaling = {
        "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10_000.0,
        "original_max_position_embeddings": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    more = {"pad_token_id": 0, "original_max_position_embeddings": 16, "tie_word_embeddings": False}
    model = tf.Phi3ForCausalLM(tf.Phi3Config(**LLAMA, **more, rope_parameters=scaling)).eval()
    model.generation_config.eos_token_id = None
    lm = LanguageModel("phi3", model, by_bytes())
    wanted = [lm.tokenizer.decode(by_transformers(lm, prompt, 24), skip_special_tokens=True) for prompt in PROMPTS]
    assert [generate(lm, prompt, 24).text for prompt in PROMPTS] == wanted
    assert [reply.text for reply in generate_batch(lm, PROMPTS, 24)] == wanted
    assert [generate(lm, prompt, 24, prefix=read(lm, prompt[:5])).text for prompt in PROMPTS[1:]] == wanted[1:]


# -- the end of a text -----------------------------------------------------------------------------------------------------------


def writes(lm, text, monkeypatch):
    """Make the model generate these bytes, followed by 'z' only."""
    ids = [lm.tokenizer(text)["input_ids"]] if isinstance(text, str) else [text]

    def step(model, given, cache, mask=None):
        done = 0 if cache is None else cache
        token = ids[0][done] if done < len(ids[0]) else lm.tokenizer("z")["input_ids"][0]
        return torch.nn.functional.one_hot(torch.tensor([token]), 260).float(), done + 1

    monkeypatch.setattr(decoding, "step", step)


@settings(deadline=None, max_examples=100)
@given(st.text("abc\n", max_size=30), st.lists(st.text("abc\n", min_size=1, max_size=4), max_size=3), st.integers(1, 40))
def test_a_text_ends_with_the_first_stop_string_that_is_whole_and_its_pieces_are_the_whole(text, stop, most):
    lm = language_model("llama")
    with pytest.MonkeyPatch.context() as patch:
        writes(lm, text, patch)
        reply = generate(lm, "x", most, stop=stop)
        pieces = [*stream(lm, "x", most, stop=stop)]
    whole = (text + "z" * most)[:most]
    read = next((whole[:k] for k in range(1, most + 1) if any(s in whole[:k] for s in stop)), whole)
    places = [read.find(s) for s in stop if s in read]
    assert reply.text == (read[: min(places)] if places else read)
    assert (reply.ended, reply.tokens) == ("stop" if places else "length", len(read))
    assert "".join(pieces) == reply.text
    assert "" not in pieces


def test_characters_of_several_bytes_come_whole(monkeypatch):
    lm = language_model("llama")
    writes(lm, "né “q” 木", monkeypatch)
    assert [*stream(lm, "x", len("né “q” 木".encode()))] == [*"né “q” 木"]


def test_a_text_ends_where_the_tokenizer_or_the_generation_config_says(monkeypatch):
    lm = language_model("llama")
    a, b, c = lm.tokenizer("abc")["input_ids"]
    lm.model.generation_config.eos_token_id = [b, c]
    writes(lm, "aab", monkeypatch)
    reply = generate(lm, "x", 9)
    assert (reply.text, reply.ended, reply.tokens, reply.prompt_tokens) == ("aa", "end", 3, 1)
    lm.model.generation_config.eos_token_id = c
    lm.tokenizer.eos_token = "<end>"
    writes(lm, [a, lm.tokenizer.eos_token_id], monkeypatch)
    assert generate(lm, "x", 9).text == "a"


def test_a_prompt_beyond_the_model_s_context_is_refused_and_a_text_ends_with_it():
    lm = language_model("llama")
    with pytest.raises(ValueError, match=r"has 513 tokens; expected at most 512, the context of llama: shorten"):
        generate(lm, "x" * 513)
    with pytest.raises(ValueError, match="the prompt has no tokens"):
        generate(lm, "")
    reply = generate(lm, "x" * 509, 40)
    assert (reply.tokens, reply.ended) == (4, "length")


def test_wrong_arguments_are_refused_by_name():
    lm = language_model("llama")
    temperatures = [{"temperature": value} for value in (-1.0, math.inf, math.nan)]
    for wrong in ({"max_tokens": 0}, {"stop": "end"}, {"stop": [""]}, {"stop": [1]}, *temperatures):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            generate(lm, "x", **wrong)
    with pytest.raises(ValueError, match="max_tokens"):
        stream(lm, "x", 0)  # the error is raised before the first piece is requested
    with pytest.raises(ValueError, match="size=0"):
        generate_batch(lm, ["x"], size=0)
    many = generate_batch(lm, (prompt for prompt in PROMPTS), 4, stop=(one for one in ["zzz"]))
    assert len(many) == 4
    for single in ("x", [HELLO]):
        with pytest.raises(ValueError, match="for a single prompt, call generate"):
            generate_batch(lm, single)


def test_bytes_that_stand_for_themselves_are_put_together_whatever_the_prompt_ends_with(monkeypatch):
    """In Llama-2's vocabulary, a rare character is encoded as one token per byte."""
    letters = {"<unk>": 0, "\u2581": 1, "a": 2} | {f"<0x{k:02X}>": 3 + k for k in range(256)}
    made = Tokenizer(vocabularies.BPE(letters, [], unk_token="<unk>", byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    lm = replace(language_model("llama"), tokenizer=PreTrainedTokenizerFast(tokenizer_object=made))
    new = lm.tokenizer("木b")["input_ids"]
    writes(lm, new, monkeypatch)
    for prompt in ("a", "a木", "木"):
        assert generate(lm, prompt, len(new)).text == "木b"
        assert [*stream(lm, prompt, len(new))] == ["木", "b"]


def test_a_special_token_may_be_a_stop_string(monkeypatch):
    lm = language_model("llama")
    (a,), end = lm.tokenizer("a")["input_ids"], lm.tokenizer.convert_tokens_to_ids("<end>")
    writes(lm, [a, end, a], monkeypatch)
    reply = generate(lm, "x", 9, stop=["<end>"])
    assert (reply.text, reply.ended, reply.tokens) == ("a", "stop", 2)
    assert generate(lm, "x", 3).text == "aa"


def test_logits_that_are_not_finite_are_told(monkeypatch):
    lm = language_model("llama")
    for value in (math.nan, -math.inf):
        found = torch.full((1, 260), value)
        monkeypatch.setattr(decoding, "step", lambda model, ids, cache, mask=None, found=found: (found, 0))
        with pytest.raises(ValueError, match="llama returns logits that are not finite; load it in float32"):
            generate(lm, "x", 2)
    found = torch.zeros(1, 260)
    found[0, 40] = 1.0
    monkeypatch.setattr(decoding, "step", lambda model, ids, cache, mask=None: (found, 0))
    assert generate(lm, "x", 1, temperature=1e-320).text == lm.tokenizer.decode([40])


# -- random numbers --------------------------------------------------------------------------------------------------------------


def test_sampled_tokens_have_the_frequencies_of_the_softmax(monkeypatch):

    lm = language_model("llama")
    logits = torch.full((260,), -torch.inf)
    logits[3:7] = torch.tensor([1.0, 0.0, 2.0, 0.5])
    monkeypatch.setattr(decoding, "step", lambda model, ids, cache, mask=None: (logits.expand(len(ids), -1), 0))
    lm.model.config.max_position_embeddings = 10_000
    job = generate(lm, "x", 1500, temperature=0.7, seed=1).text
    wanted = torch.softmax(logits[3:7].double() / 0.7, 0)
    kinds = lm.tokenizer.convert_ids_to_tokens(range(3, 7))
    for kind, share in zip(kinds, wanted.tolist(), strict=True):
        assert job.count(kind) / 1500 == pytest.approx(share, abs=0.04)


def test_a_seed_gives_the_same_text_alone_and_in_a_batch_and_torch_s_own_numbers_are_left_alone():
    lm = language_model("llama")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = generate_batch(lm, PROMPTS, 12, temperature=1.0, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert one == generate_batch(lm, PROMPTS, 12, temperature=1.0, seed=3, size=1)
    assert one[0] == generate(lm, PROMPTS[0], 12, temperature=1.0, seed=3)
    assert one != generate_batch(lm, PROMPTS, 12, temperature=1.0, seed=4)
    same = generate_batch(lm, [PROMPTS[0]] * 4, 12, temperature=1.0, seed=3)
    assert len({reply.text for reply in same}) == 4


def test_the_model_is_in_evaluation_mode_while_it_writes_and_as_it_was_after():
    tokenizer = models.shared(models.TINY).tokenizer
    torch.manual_seed(0)
    sizes = {**GPT, "vocab_size": len(tokenizer), "tie_word_embeddings": False}
    model = tf.GPT2LMHeadModel(tf.GPT2Config(**sizes, n_positions=64, resid_pdrop=0.9)).train()
    model.generation_config.eos_token_id = None
    lm = LanguageModel("gpt2", model, tokenizer)
    assert generate(lm, "abc", 8) == generate(lm, "abc", 8)
    assert model.training
    model.transformer.drop.eval()
    wanted = generate(lm, "abc", 8).text
    one, two = stream(lm, "abc", 8), stream(lm, "abc", 8)
    next(one), next(two)
    one.close()
    next(two)
    two.close()
    assert "".join(stream(lm, "abc", 8)) == wanted
    assert model.training
    assert model.transformer.h[0].training
    assert not model.transformer.drop.training


# -- chats -----------------------------------------------------------------------------------------------------------------------


def test_a_chat_model_answers_by_its_template():
    lm = models.shared(models.SMOLLM2)
    text = chat_text(lm, [HELLO])
    assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    reply = generate(lm, [{"role": "user", "content": "What is the capital of France?"}], 20)
    assert "Paris" in reply.text
    assert reply.ended == "end"
    prefix = read(lm, [{"role": "system", "content": "You answer in one word."}])
    chat = [{"role": "system", "content": "You answer in one word."}, HELLO]
    assert generate(lm, chat, 8, prefix=prefix).text == generate(lm, chat, 8).text


def test_without_a_template_messages_are_lines_and_that_is_told_once(monkeypatch):
    lm = language_model("llama")
    with pytest.warns(UserWarning, match="llama has no chat template: each message becomes a line"):
        assert chat_text(lm, [SYSTEM, HELLO]) == "System: Be brief.\nUser: Hello\nAssistant:"
    writes(lm, " Hi.\nUser: and", monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reply = generate(lm, [HELLO], 20)
    assert (reply.text, reply.ended) == (" Hi.", "stop")


def test_a_template_without_system_messages_gets_them_before_the_first_question():
    lm = language_model("llama")
    lm.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
    )
    with pytest.warns(UserWarning, match="accepts no system message"):
        assert chat_text(lm, [SYSTEM, HELLO]) == "<user>Be brief.\n\nHello<model>"
    with pytest.raises(ValueError, match="rejects these messages: System role not supported"):
        chat_text(lm, [SYSTEM])
    none = [{"role": "user", "content": None}]
    for wrong, said in (([], "the chat has no messages"), (["Hello"], "expected a dict"), (none, "texts")):
        with pytest.raises(ValueError, match=said):
            chat_text(lm, wrong)
    with pytest.raises(ValueError, match=r"expected the keys role \(system, user, assistant\) and content"):
        chat_text(lm, [{"role": "bot", "content": ""}])


def test_a_text_begins_with_the_token_that_its_tokenizer_puts_there_and_a_chat_as_its_template_says(tmp_path):
    from tokenizers.processors import TemplateProcessing

    lm = language_model("llama")
    inner = lm.tokenizer.backend_tokenizer
    inner.add_special_tokens(["<s>"])
    inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))])
    lm = replace(lm, tokenizer=PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>"))
    (ids, given) = lm.prompt_ids(["ab", "<s>ab"])
    assert ids == given == lm.tokenizer("ab")["input_ids"]
    lm.tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert prompt_tokens(lm, [HELLO])[1] == lm.tokenizer("Hello", add_special_tokens=False)["input_ids"]
    lm.tokenizer.chat_template = None
    with pytest.warns(UserWarning, match="no chat template"):
        text, ids, stops = prompt_tokens(lm, [HELLO])
    assert ids == lm.tokenizer(text)["input_ids"], "without a template, a chat is tokenized like a text"
    assert "\nUser:" in stops
