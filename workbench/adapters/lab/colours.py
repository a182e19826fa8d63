"""Colours, markers and display names of the methods in all figures on adapters, and the measures that these figures show."""

from __future__ import annotations

from workbench.inks import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PINK, RED, SKY
from workbench.measures import Measure, Note, SeriesStyle

COLOURS = {
    "miss": ORANGE, "mini": ORANGE, "bat-col": RED, "bat-row": RED, "lora": BLUE, "rslora": SKY, "lora+": SKY, "pissa": GREEN,
    "olora": GREEN, "lora-ga": GREEN, "dora": PINK, "lora-fa": GREY, "hira": GREY, "full": INK,
    "orthogonal A": SKY, "W permuted": PINK, "without W": GREY, "without I": GREEN, "frozen": FAINT,
}  # fmt: skip
MARKERS = {"mini": "^", "bat-row": "s", "lora+": "^", "olora": "^", "lora-ga": "s", "hira": "^"}  # for methods of the same colour
NAMES = {
    "miss": "MiSS", "mini": "mini", "bat-col": "Bat-col", "bat-row": "Bat-row", "lora": "LoRA", "rslora": "rsLoRA",
    "lora+": "LoRA+", "pissa": "PiSSA", "olora": "OLoRA", "lora-ga": "LoRA-GA", "dora": "DoRA", "lora-fa": "LoRA-FA",
    "hira": "HiRA", "full": "full",
    "orthogonal A": "MiSS, A orthogonal", "W permuted": "Bat-row, W permuted", "without W": "Bat-row, no W",
    "without I": "Bat-row, no identity", "frozen": "frozen layer",
}  # fmt: skip


MODEL_NAMES = {"tiny-llama": "tiny llama", "tiny-rwkv6": "tiny RWKV-6", "smollm2-135m": "SmolLM2-135M"}
STYLE = SeriesStyle(NAMES, COLOURS, MARKERS)
LOSS = Measure("loss", "test loss, nats per token", digits=3, lower=True)
FORGETTING = Measure("forgetting", "rise of the prose loss, nats per token", digits=3, lower=True)
NOTE = Note(
    "a method's own rate: the best of {tried} on held-out data; ", "", "the chosen rate is the lowest or the highest tried",
    ", none of them at a chosen rate",
)  # fmt: skip
