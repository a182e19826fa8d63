"""Benchmarks of text generation with SmolLM2: against transformers' generate, in a batch, and after a long prefix.

The results are ratios of times within one run.

python tests/bench/bench_generation.py
"""

import resource
import time

import torch
import transformers
from report import Report

from workbench import datasets, models
from workbench.generation import generate, generate_batch, read

TOKENS = 32
NAMES = 1000
VERSIONS = {"transformers": transformers.__version__}
report = Report("generation")


def timed(call, repeats=3):
    """Return the shortest time of `repeats` calls in seconds, and the value of the last call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - start)
    return min(times), found


def by_transformers(lm, text):
    """Return the text that transformers' generate writes greedily. It has at most as many tokens as ours."""
    ids = torch.tensor(lm.prompt_ids([text]))
    more = {"do_sample": False, "pad_token_id": lm.tokenizer.eos_token_id}
    out = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, **more)
    return lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def plain(lm):
    """Measure a single prompt, and eight prompts of different lengths in one batch."""
    prose = datasets.load("prose-evaluation")
    prompts = [prose[k * 2000 : k * 2000 + 200 + 40 * k] for k in range(8)]
    ours, reply = timed(lambda: generate(lm, prompts[0], TOKENS))
    theirs, text = timed(lambda: by_transformers(lm, prompts[0]))
    assert reply.text == text
    print(f"{TOKENS} tokens after {reply.prompt_tokens}: {ours:.2f} s, {ours / theirs:.2f} of transformers' generate")
    report.row(
        f"{TOKENS} tokens after a prompt of {reply.prompt_tokens}: generate / transformers' generate",
        round(ours / theirs, 2),
        remark=f"{ours:.2f} s",
        versions=VERSIONS,
    )
    single, one = timed(lambda: [generate(lm, prompt, TOKENS) for prompt in prompts], 2)
    batch, all_ = timed(lambda: generate_batch(lm, prompts, TOKENS, size=8), 2)
    same = sum(a.text == b.text for a, b in zip(one, all_, strict=True))
    print(f"eight prompts at once: {batch:.2f} s, {batch / single:.2f} of one after another ({same} of 8 texts are the same)")
    report.row(
        f"{TOKENS} tokens after each of eight prompts: in one batch / one after another",
        round(batch / single, 2),
        remark=f"{batch:.2f} s; {same} of 8 texts are the same",
        versions=VERSIONS,
    )


def behind_a_prefix(lm):
    """Measure a question after a list of a thousand names, such as an agent has to read before every question."""
    names = "Names: " + ", ".join(f"Person {k}" for k in range(NAMES)) + ".\n"
    start = time.perf_counter()
    prefix = read(lm, names)
    once = time.perf_counter() - start
    question = names + "Question: Is Person 17 in the list?\nAnswer:"
    spared, reply = timed(lambda: generate(lm, question, 8, prefix=prefix), 2)
    whole, again = timed(lambda: generate(lm, question, 8), 1)
    assert reply.text == again.text
    print(
        f"8 tokens after {reply.prompt_tokens:,}, {len(prefix.ids):,} of them a prefix (read once, {once:.1f} s): "
        f"{spared:.2f} s, {spared / whole:.2f} of reading all ({whole:.2f} s)"
    )
    report.row(
        f"8 tokens after a prompt of {reply.prompt_tokens:,}: with a prefix of {len(prefix.ids):,} that is read once / without",
        round(spared / whole, 3),
        remark=f"{spared:.2f} s; reading the prefix takes {once:.1f} s",
        versions=VERSIONS,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, SmolLM2-135M in float32")
    smollm2 = models.load(models.SMOLLM2)
    plain(smollm2)
    behind_a_prefix(smollm2)
    peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"
    print(f"peak memory {peak}")
    report.row("All of these measurements in one process", memory=peak, versions=VERSIONS)
