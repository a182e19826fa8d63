"""Simulations of one synapse, pulse by pulse, for the teaching notebook, the live experiments and the tests."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.synapse.config import SynapseConfig
from workbench.synapse.layer import STATS, SynapseLayer
from workbench.synapse.rules import pulse_counts

REFRESHED = STATS.index("refreshed")


def one_synapse(config: SynapseConfig) -> SynapseLayer:
    """Return a layer of one synapse in float64. Its weight starts at about 0 and can range from -1 to 1.

    The two devices start at g = 0.5 in the schemes push-pull and alternating, and at g = 0 in the scheme uni. In the scheme
    reference, the device starts at the conductance of the ladder (see `Device.ladder`) that is nearest to the fixed reference.
    """
    layer = SynapseLayer(1, 1, config, 1.0, 0, torch.float64)
    layer.write(torch.zeros(1, 1, dtype=torch.float64))
    if config.scheme in ("push-pull", "alternating"):
        layer.g.fill_(0.5)
        layer.weight.copy_(layer.scale * (layer.g[0] - layer.g[1]))
    return layer


def walk(config: SynapseConfig, pulses: Tensor, compiled: bool = False) -> dict[str, list]:
    """Send signed pulses to one synapse, refresh it as configured, and record its state after each pulse.

    `pulses` has the shape ``(n,)``, and positive values raise the weight. If `compiled` is True, the compiled implementation is
    used, which is fast enough to redraw a figure while a slider moves.

    Returns a dictionary of lists. ``plus``, ``minus`` and ``weight`` hold ``n + 1`` values of g+, g- and the weight; the first
    value is the initial state. ``ideal`` holds the ``n + 1`` weights of an ideal synapse, which has no limits and whose steps
    all have the size `unit` of the layer. ``refreshed`` lists the pulses, counted from 1, after which the pair was rewritten.
    """
    layer = one_synapse(config)
    ideal = [0.0, *(layer.unit * pulses.cumsum(0)).tolist()]
    if compiled:
        from workbench.synapse.compiled.train import walk as fast  # imported here, since importing numba takes a second

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
    """Return `count` single pulses ``(count,)``: each is 1 (up) with probability `up`, and -1 (down) otherwise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(count, generator=generator) < up, 1, -1)


def delivered(config: SynapseConfig, x: float, delta: float, unit: float, trials: int) -> Tensor:
    """Return the signed number of pulses that the update rule sends for one input and one error, in each of several trials.

    `x` is the input, `delta` is the error, and `unit` is the expected change of the weight by one pulse. The result has the
    shape ``(trials,)``, and the trials are independent.
    """
    row, column = torch.tensor([x], dtype=torch.float64), torch.tensor([delta], dtype=torch.float64)
    return torch.stack([pulse_counts(config, row, column, unit, False, (config.seed, t, 0))[0, 0] for t in range(trials)])
