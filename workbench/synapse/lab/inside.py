"""One synapse under a microscope, for the teaching notebook and its tests."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.synapse.config import SynapseConfig
from workbench.synapse.layer import STATS, SynapseLayer
from workbench.synapse.rules import pulse_counts

REFRESHED = STATS.index("refreshed")


def one_synapse(config: SynapseConfig) -> SynapseLayer:
    """A layer of one synapse, in float64, weights from -1 to 1, starting at weight 0."""
    layer = SynapseLayer(1, 1, config, 1.0, 0, torch.float64)
    layer.write(torch.zeros(1, 1, dtype=torch.float64))
    if config.scheme in ("push-pull", "alternating"):
        layer.g.fill_(0.5)
        layer.weight.copy_(layer.scale * (layer.g[0] - layer.g[1]))
    return layer


def walk(config: SynapseConfig, pulses: Tensor, compiled: bool = False) -> dict[str, list]:
    """Send signed `pulses` ``(n,)`` to one synapse, refreshing as the config says; what it did, step by step.

    Keys: plus, minus, weight ``(n + 1,)``; ideal: the weight of a synapse without limits and with steps of the unit;
    refreshed: the steps after which the pair was rewritten. `compiled`: by the fast twin, for a picture that follows a slider.
    """
    layer = one_synapse(config)
    ideal = [0.0, *(layer.unit * pulses.cumsum(0)).tolist()]
    if compiled:
        from workbench.synapse.compiled.train import walk as fast  # numba takes a second

        seen, refreshed = fast(layer, pulses)
        plus, minus, weight = seen.T.tolist()
        return {"plus": plus, "minus": minus, "weight": weight, "refreshed": refreshed.tolist(), "ideal": ideal}
    found: dict[str, list] = {"plus": [], "minus": [], "weight": [], "refreshed": []}

    def look() -> None:
        for name, value in (("plus", layer.g[0]), ("minus", layer.g[1]), ("weight", layer.weight)):
            found[name].append(value.item())

    look()
    for step, count in enumerate(pulses.tolist(), 1):
        layer.pulse(torch.tensor([[count]]), step)
        if config.refreshes and step % config.refresh_every == 0:
            before = layer.stats[REFRESHED].item()
            layer.refresh(step)
            if layer.stats[REFRESHED].item() > before:
                found["refreshed"].append(step)
        look()
    found["ideal"] = ideal
    return found


def random_pulses(count: int, up: float, seed: int) -> Tensor:
    """`count` single pulses, each up with probability `up`, else down."""
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(count, generator=generator) < up, 1, -1)


def delivered(config: SynapseConfig, x: float, delta: float, unit: float, trials: int) -> Tensor:
    """Signed pulses that the config's rule sends for one input and one error, in `trials` independent tries."""
    row, column = torch.tensor([x], dtype=torch.float64), torch.tensor([delta], dtype=torch.float64)
    return torch.stack([pulse_counts(config, row, column, unit, False, (config.seed, t, 0))[0, 0] for t in range(trials)])
