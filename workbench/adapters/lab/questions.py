"""Questions that panels ask before a run. By default, a method has its best learning rate from the reference comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.adapters.lab.colours import NAMES
from workbench.experiment import Question, Record

# the best learning rates of the reference comparison on sums (tests compare them with the reference records)
CHOSEN = {"miss": 0.0035, "lora": 0.004, "full": 0.0014, "bat-row": 0.0017}
RANKS = {4: 0.0035, 64: 0.0011}  # the best learning rates of MiSS, by rank
SHARED = 0.001  # the learning rate of all methods in the comparison at the same rate
QUICK = {"model": "tiny-llama", "data": "sums", "steps": 100, "samples": 2000, "batch": 16, "every": 5}
SAME = 0.03  # nats per token: smaller differences are within the variation between seeds
SHORT = "This run has one seed and 100 steps. The fits behind the ledger have several seeds and 300 steps."


def _at(method: str, lr: float | None = None, r: int = 16) -> dict[str, Any]:
    return {**QUICK, "method": method, "r": 8 if method == "lora" else r, "lr": lr or CHOSEN[method]}


def _lower(records: list[Record], rival: list[Record]) -> int:
    """Return the index of the right answer.

    It is 2 if the losses of the two runs differ by less than `SAME`. Otherwise, it is 0 if the pinned run (`rival`) has the lower
    loss, and 1 if the other run has.
    """
    gap = records[-1]["held_out"] - rival[-1]["held_out"]
    return 2 if abs(gap) < SAME else 1 if gap < 0 else 0


def _losses(one: str, pinned: str) -> Callable[[list[Record], list[Record]], str]:
    return lambda now, rival: (
        f"the held-out loss is {now[-1]['held_out']:.2f} nats per token with {NAMES.get(one, one)} and "
        f"{rival[-1]['held_out']:.2f} with {NAMES.get(pinned, pinned)}"
    )


def _lowest(pinned: str, one: str) -> tuple[str, str, str]:
    return f"{pinned} has the lower loss", f"{one} has the lower loss", f"they differ by less than {SAME} nats per token"


def _above(records: list[Record]) -> int:
    return sum(value > 1e-3 for value in records[-1]["values"])


TRAIN = (
    Question(
        "The same learning rate for both",
        "LoRA (pinned) and MiSS are trained on sums, both at the learning rate 0.001, since the paper uses the "
        "same rate for all methods. Which has the lower loss on held-out questions?",
        _lowest("LoRA", "MiSS"), _lower, _at("miss", SHARED), _at("lora", SHARED), measured=_losses("miss", "lora"),
        claim="fit-shared", agrees={"holds": (1, 2), "fails": (0, 2)}, unlike=SHORT,
        why="In the first step, AdamW changes each entry of MiSS's matrix, and so each weight, by the learning rate. The update "
        "of LoRA is a product of two matrices, so its first step moves a weight only a fifth as far. Later, both methods move "
        "the weights less, and LoRA moves them about half as far as MiSS: compare the curves “Step”. At this low rate, LoRA "
        "therefore learns more slowly.",
    ),
    Question(
        "Each at its own learning rate",
        "The same comparison, but LoRA (pinned) is trained at the rate 0.004 and MiSS at 0.0035. Each method has the "
        "rate that is best for it on held-out questions. Which has the lower loss?",
        _lowest("LoRA", "MiSS"), _lower, _at("miss"), _at("lora"), measured=_losses("miss", "lora"),
        claim="fit", agrees={"holds": (1, 2), "fails": (0, 2)}, unlike=SHORT,
        why="The rate 0.004 is four times the shared rate of 0.001. With it, LoRA learns faster, and the two loss curves nearly "
        "coincide. Which curve is lower at the end depends on the seed. The rate 0.001 is too low for both methods, but it "
        "costs LoRA more. So a comparison at this rate mainly shows that LoRA learns more slowly there.",
    ),
    Question(
        "Sixteen times the rank",
        "MiSS is trained at rank 4 (pinned) and at rank 64, each at its best learning rate. Which rank has the lower loss?",
        _lowest("rank 4", "rank 64"), _lower, _at("miss", RANKS[64], 64), _at("miss", RANKS[4], 4),
        measured=_losses("rank 64", "rank 4"), claim="rank", agrees={"holds": (1, 2), "fails": (0, 2)}, unlike=SHORT,
        why="The rank of MiSS's update is at most r, so at rank 4 only four singular values are above zero. A higher rank can "
        "represent more of the update that full fine-tuning would make. On this task the two losses differ little: the curve "
        "“Singular values” shows that at rank 64, too, the first few values are much larger than the others.",
    ),
    Question(
        "How many singular values?",
        "In the layer shown (q of block 0), Bat-row at r = 16 trains one parameter for every eight entries of the weight. The "
        "panel computes the 64 largest singular values of its update. How many of them are larger than a thousandth of the "
        "norm of the update?",
        ("at most 16", "17 to 48", "more than 48"),
        lambda now, rival: 0 if _above(now) <= 16 else 1 if _above(now) <= 48 else 2, _at("bat-row"),
        measured=lambda now, rival: f"{_above(now)} of the {len(now[-1]['values'])} largest values exceed the threshold",
        why="Bat-row multiplies each block of the weight, plus an identity, by a trained matrix. The blocks of the weight "
        "differ, so the products differ too. The rank of the update of MiSS or LoRA is at most r, but r does not limit the "
        "rank of Bat's update.",
    ),
    Question(
        "Train all weights?",
        "Full fine-tuning trains all weights of the layers. MiSS (pinned) trains a tenth as many numbers. "
        "Each method has its best learning rate. Which has the lower loss after 100 steps?",
        _lowest("MiSS", "full fine-tuning"), _lower, _at("full"), _at("miss"), measured=_losses("full", "miss"),
        why="Full fine-tuning can make every update that MiSS can make, but it does not find a better one within 100 steps. Its "
        "best learning rate is lower, so it moves the weights less in each step: compare the curves “Step”. After 300 steps "
        "(notebook 03 Figures), the difference between the losses is much smaller. So more trained parameters do not imply a "
        "lower loss.",
    ),
    Question(
        "A higher learning rate",
        "MiSS is trained at the rate 0.01, instead of its best rate of 0.0035 (pinned). How does the loss after 100 steps "
        "change?",
        ("it is higher", "it is lower", f"it changes by less than {SAME} nats per token"), _lower, _at("miss", 0.01), _at("miss"),
        measured=_losses("the rate 0.01", "0.0035"),
        why="At the higher rate, the first steps move the weights about three times as far: compare the curves “Step”. In the "
        "end, some updates have a larger norm than the weight itself: the map “Moved” shows more than 100 %. The loss falls more "
        "slowly, and the short steps at the end of the schedule do not make up for this.",
    ),
)  # fmt: skip


def _rank_is(*bounds: int) -> Callable[[list[Record], list[Record]], int]:
    """Return a function that maps the rank in the last record to the index of the right answer.

    The right answer is the first one whose bound in `bounds` is at least the rank. The last answer has no bound: it is right for
    all larger ranks.
    """
    return lambda records, rival: next((k for k, bound in enumerate(bounds) if records[-1]["rank"] <= bound), len(bounds))


def _rank(records: list[Record], rival: list[Record]) -> str:
    return f"the update has rank {records[-1]['rank']}"


SHARDS = (
    Question(
        "LoRA with another A",
        "Suppose that LoRA's matrix A is not drawn at random, but consists of identity matrices side by side and is "
        "frozen. Which method has the same update?",
        ("MiSS", "Bat", "none of this family"), lambda records, rival: 0 if records[-1]["is_miss"] else 2,
        {"method": "lora: A tiled", "r": 8}, measured=lambda records, rival: "the panel computes both updates and compares them",
        why="The product B·A with such an A repeats B once for each block of r inputs. That is the definition of MiSS. So "
        "MiSS is LoRA with an A that is neither trained nor stored.",
    ),
    Question(
        "The rank of Bat's update",
        "Bat-row at r = 4 trains 256 numbers for a weight of 48 x 64. What is the rank of its update?",
        ("4", "5 to 16", "more than 16"), _rank_is(4, 16), {"method": "bat-row", "r": 4}, measured=_rank,
        why="Each block of the weight, plus an identity, is multiplied by a trained matrix, so the update contains the entries "
        "of the weight. Without them, all blocks in a column of blocks would be equal, and the rank would be at most r. The "
        "blocks of the weight differ, so r does not limit the rank.",
    ),
    Question(
        "The rank of mini's update",
        "Mini at r = 16 and q = 8 shares one matrix among all blocks of inputs and of outputs. What is the rank of its update?",
        ("at most 8", "9 to 16", "more than 16"), _rank_is(8, 16), {"method": "mini", "r": 16, "q": 8}, measured=_rank,
        why="The same q rows repeat for every block of outputs. The update has at most q different rows, so its rank is at"
        " most q.",
    ),
)  # fmt: skip
