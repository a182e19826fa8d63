"""A layer whose weights are stored in devices. This is the readable implementation; `compiled` holds the fast one.

A weight is stored either as a differential pair, ``scale (g+ - g-)``, or as one device with a fixed reference,
``2 scale (g - g_ref)``. The update scheme decides which device is pulsed:

- `uni` (unidirectional) raises g+ to increase the weight and g- to decrease it. It never uses LTD, the pulses that lower a
  conductance. This is the paper's proposal.
- `push-pull` raises one conductance of the pair and lowers the other.
- `alternating` sends one of the two pulses of push-pull, chosen at random. So its steps are about as large as those of `uni`.
  This scheme is a control that Workbench adds to the paper's schemes.
- `reference` pulses a single device up or down.

Only the abstract of the paper (arXiv 1707.06381) is public, so the circuit that the paper uses is not known.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from workbench.synapse import counter
from workbench.synapse.config import SynapseConfig
from workbench.synapse.devices import geometric
from workbench.synapse.tables import Table, interpolate
from workbench.synapse.variation import draw_laws

# The names of the statistics. Each one counts events in one layer since the layer was created.
STATS = (
    "pulses",  # training pulses sent to all devices
    "clipped",  # training pulses sent to a device that was already at the end of its range
    "refreshed",  # pairs that were refreshed
    "reads",  # reads of single devices by refresh
    "resets",  # resets of single devices by refresh
    "refresh_pulses",  # pulses sent by refresh or by `SynapseLayer.write`
    "missed",  # refreshed pairs whose new conductance difference is wrong by more than the first step of `Device.ladder`
    "active",  # hidden activations with derivative 1
    "high",  # hidden activations at their upper limit
)


class SynapseLayer(nn.Module):
    """A layer of ``(inputs, outputs)`` synapses.

    The state consists of the conductances `g` ``(2, in, out)``, the device parameters `laws` ``(2, in or 1, out or 1, 6)``
    (see `variation.Laws`), and the `weight` ``(in, out)`` that reads use. `weight` is ``scale (g+ - g-)`` plus write noise.
    With the rule `float`, training changes `weight` directly and does not use `g`. With the rule `netted`, `pending`
    ``(in, out)`` sums the gradient of the current batch. The argument `scale` is the largest weight. The attribute `scale` is
    twice as large in the scheme `reference`, because only one of the two conductances changes there. Programming
    assumes the `average` device, which has no variation, because the individual devices are not known. Random
    numbers depend only on the config's seed, the step and the layer's `index`.
    """

    def __init__(self, inputs: int, outputs: int, config: SynapseConfig, scale: float, index: int, dtype=torch.float32):
        super().__init__()
        config = config.resolved()
        self.config, self.index, self.device_law = config, index, config.make_device()
        self.average = self.device_law.biased(config.asymmetry)
        self.single = config.scheme == "reference"
        self.max_weight, self.scale = scale, 2 * scale if self.single else scale
        self.write_noise = config.write_noise * scale / self.scale  # standard deviation of the noise in g+ - g-
        generator = torch.Generator().manual_seed(counter.key(config.seed, index, counter.START))
        start = (2 * torch.rand(inputs, outputs, generator=generator, dtype=torch.float64) - 1) / inputs**0.5
        # The devices have a separate generator, so the spreads do not change the initial weights.
        devices = torch.Generator().manual_seed(counter.key(config.seed, index, counter.DEVICES))
        laws = draw_laws(self.device_law, config, inputs, outputs, devices)
        self.clamped = laws.clamped
        self.register_buffer("laws", laws.values.to(dtype))
        self.register_buffer("ladder", self.average.ladder())
        self.register_buffer("g", self._programmed(start / scale).to(dtype))
        if config.rule == "float":
            self.register_buffer("weight", start.clamp(-scale, scale).to(dtype))
        else:
            self.register_buffer("weight", self._read_out(counter.key(config.seed, index, counter.START)))
        self.register_buffer(
            "pending", torch.zeros_like(self.weight) if config.rule == "netted" else torch.zeros(1, 1, dtype=dtype)
        )
        self.stats = torch.zeros(len(STATS), dtype=torch.int64)

    @cached_property
    def reference(self) -> float:
        """The conductance that represents weight 0 in the reference scheme.

        If the knob `reference_point` is "symmetry point" and the device has a symmetry point, the reference is this point. In
        all other cases, it is 0.5.
        """
        point = None if self.config.reference_point == "middle" else self.average.symmetry_point()
        return 0.5 if point is None else point

    @cached_property
    def unit(self) -> float:
        """The unit step: the expected change of the weight by one pulse (notebook 02-inside, step 2).

        The actual step depends on the conductance. Unidirectional pairs are refreshed and stay near Gmin, so the unit step is
        computed from the step at Gmin. Devices in other schemes stay near the middle of the range (or near the reference), so
        the unit step is computed from the mean of the steps up and down at that conductance.
        """
        at = torch.tensor(0.0 if self.config.scheme == "uni" else self.reference if self.single else 0.5, dtype=torch.float64)
        up, down = self.average.rise(at).item(), self.average.fall(at).item()
        if self.config.scheme == "uni":
            return self.max_weight * up
        return self.max_weight * (up + down) / 2 * (1 if self.config.scheme == "alternating" else 2)

    def _programmed(self, target: Tensor) -> Tensor:
        """Return the conductances ``(2, in, out)`` that represent the weights `target`, given as shares of the largest weight.

        Each conductance is rounded to the ladder of the average device (see `Device.ladder`), and then clipped to the range of
        the device that stores it. A fixed reference is not rounded.
        """
        if self.config.scheme == "uni":
            pair = torch.stack([target.clamp(min=0), (-target).clamp(min=0)])
        elif self.single:
            pair = torch.stack([self.reference + target / 2, torch.full_like(target, self.reference)])
        else:
            pair = torch.stack([0.5 + target / 2, 0.5 - target / 2])
        found = self.ladder[self.nearest(pair.clamp(0, 1))]
        found = found.clamp(self.laws[..., 4].double(), self.laws[..., 5].double())
        return torch.stack([found[0], pair[1]]) if self.single else found

    def nearest(self, g: Tensor) -> Tensor:
        """Return the number of pulses from Gmin after which the average device is closest to the conductance `g`."""
        i = torch.searchsorted(self.ladder, g.double().contiguous()).clamp(1, len(self.ladder) - 1)
        return torch.where(g - self.ladder[i - 1] <= self.ladder[i] - g, i - 1, i)

    def _read_out(self, key: int) -> Tensor:
        difference = self.g[0] - self.g[1]
        if self.write_noise:
            difference = difference + self.write_noise * self._normal(key)
        return self.scale * difference

    def _normal(self, key: int) -> Tensor:
        return counter.normal(key, *self.g.shape[1:], self.g.dtype, self.g.device)

    def write(self, weight: Tensor, step: int = 0) -> int:
        """Write `weight` ``(in, out)`` open-loop, that is, without reading the result.

        All devices are reset. Then each device receives the number of pulses with which the average device would reach the
        wanted conductance. A fixed reference receives no pulses. Returns the number of weights that were clipped because they
        are outside the range that can be programmed.
        """
        wanted = weight.double() / self.scale
        self.g.copy_(self.laws[..., 4].expand_as(self.g))
        key = counter.key(self.config.seed, step, self.index, counter.PROGRAM)
        if self.single:
            self.g[1] = self.reference
            target = (wanted + self.reference)[None]
        else:
            target = torch.stack([wanted.clamp(min=0), (-wanted).clamp(min=0)])
        for which, counts in enumerate(self.nearest(target)):
            self.move(which, counts, True, key, refresh=True)
        self.weight.copy_(self._read_out(counter.key(self.config.seed, step, self.index, counter.WRITE, 1)))
        return int(((target < -1e-6) | (target > self.ladder[-1] + 1e-6)).sum())

    def read(self, x: Tensor, step: int, purpose: int = counter.LOOK) -> Tensor:
        """Drive the rows with `x` ``(batch, in)``, and return the summed currents of the columns ``(batch, out)``.

        If `purpose` is ``counter.TRANSPOSED``, the columns are driven with `x` ``(batch, out)`` instead, and the currents of
        the rows ``(batch, in)`` are returned. Read noise is added; its random numbers depend on `step` and `purpose`.
        """
        z = x @ (self.weight.T if purpose == counter.TRANSPOSED else self.weight)
        if self.config.read_noise:
            key = counter.key(self.config.seed, step, self.index, purpose)
            z = z + self.config.read_noise * counter.normal(key, *z.shape, z.dtype, z.device)
        return z

    def pulse(self, counts: Tensor, step: int) -> None:
        """Send `counts` ``(in, out)`` pulses to the devices that the scheme chooses.

        A positive count raises the weight, and a negative count lowers it.
        """
        seed, index, scheme = self.config.seed, self.index, self.config.scheme
        up, down = counts.clamp(min=0), (-counts).clamp(min=0)
        key = counter.key(seed, step, index, counter.CYCLE)
        if scheme == "uni":
            self.move(0, up, True, key)
            self.move(1, down, True, key)
        elif scheme == "reference":
            self.move(0, up, True, key)
            self.move(0, down, False, key)
        else:
            first = second = torch.ones_like(counts, dtype=torch.bool)
            if scheme == "alternating":
                coin = counter.key(seed, step, index, counter.COIN)
                first = counter.uniform(coin, *counts.shape, torch.float64, counts.device) < 0.5
                second = ~first
            self.move(0, up * first, True, key)
            self.move(0, down * first, False, key)
            self.move(1, up * second, False, key)
            self.move(1, down * second, True, key)
        changed = counts != 0
        fresh = self._read_out(counter.key(seed, step, index, counter.WRITE))
        self.weight.copy_(torch.where(changed, fresh, self.weight))

    def move(self, which: int, counts: Tensor, up: bool, key: int, refresh: bool = False) -> None:
        """Send `counts` ``(in, out)`` pulses in one direction to device `which` (0: plus, 1: minus) of each synapse.

        `key` seeds the cycle-to-cycle noise. The statistics count the pulses as refresh pulses if `refresh` is True, and as
        training pulses otherwise.
        """
        if not counts.any():
            return
        old, law = self.g[which], self.laws[which]
        low, high = law[..., 4], law[..., 5]
        new, variance = self._pulsed(old, law, counts, up)
        if self.config.cycle:
            sigma = self.config.cycle_of_range(self.device_law.levels)
            noise = self._normal(counter.key(key, which)) * sigma * (high - low) * variance.sqrt()
            new = torch.clamp(new + noise, low, high)
        if refresh:
            self.count("refresh_pulses", counts.sum())
        else:
            self.count("pulses", counts.sum())
            self.count("clipped", counts[old == (high if up else low)].sum())
        self.g[which] = torch.where(counts > 0, new, old)

    def _pulsed(self, g: Tensor, law: Tensor, counts: Tensor, up: bool) -> tuple[Tensor, Tensor]:
        """Return the conductances after `counts` pulses, and the variance of their noise relative to that of one pulse.

        If steps shrink during a series of pulses, each pulse multiplies the noise of the earlier pulses by 1 - b, where -b is
        the slope of the change of g as a function of g. So the variance of n pulses is less than n times the variance of one
        pulse. The variance is exact as long as no conductance is clipped at an end of its range.
        """
        low, high = law[..., 4], law[..., 5]
        if not isinstance(self.device_law, Table):
            b = law[..., 1] if up else law[..., 3]
            step = law[..., 0] - b * g if up else -(law[..., 2] + b * g)
            moved = g + step * geometric(counts, b).to(g.dtype)
            variance = geometric(counts, b * (2 - b)) if self.config.cycle else torch.zeros_like(g)
            return torch.clamp(moved, low, high), variance.to(g.dtype)
        variance, factor = torch.zeros_like(g), law[..., 0] if up else -law[..., 2]
        knots, steps = self.device_law.steps(up, g.device)
        width = high - low
        for pulse in range(int(counts.max())):
            step, slope = interpolate((g - low) / width.clamp(min=1e-12), knots, steps)
            moved = torch.clamp(g + width * factor * step, low, high)
            grown = variance * (1 + factor * slope).square() + 1
            g, variance = (torch.where(counts > pulse, new, old) for new, old in ((moved, g), (grown, variance)))
        return g, variance

    def fullness(self) -> Tensor:
        """Return each conductance as a share of the highest conductance that pulses can reach in this device.

        For a stuck device, the share is relative to the nominal Gmax instead.
        """
        low, high = self.laws[..., 4].double(), self.laws[..., 5].double()
        return self.g.double() / torch.where(high > low, high * self.ladder[-1], 1.0)

    def refresh(self, step: int) -> None:
        """Rewrite saturating pairs (notebook 02-inside, step 4).

        Refresh reads both devices of every pair. A pair is saturating if the `fullness` of both devices is above
        `refresh_below`, and the `fullness` of at least one is above `refresh_above`. Refresh resets both devices of a
        saturating pair, reads them again, and programs the missing difference into one of them. The second read is needed
        because a reset has no effect on a device that is stuck above Gmin.
        """
        config, full = self.config, self.fullness()
        hit = (full.amax(0) > config.refresh_above) & (full.amin(0) > config.refresh_below)
        wanted = self.g[0] - self.g[1]
        self.g.copy_(torch.where(hit, self.laws[..., 4], self.g))
        missing = wanted - (self.g[0] - self.g[1])
        sides = torch.stack([hit & (missing >= 0), hit & (missing < 0)])
        self.count("reads", 2 * hit.numel() + 2 * hit.sum())
        self.count("refreshed", hit.sum())
        self.count("resets", 2 * hit.sum())
        if config.refresh == "ideal":
            exact = torch.clamp(self.g + missing.abs(), self.laws[..., 4], self.laws[..., 5])
            self.g.copy_(torch.where(sides, exact, self.g))
        elif config.refresh == "open-loop":
            key = counter.key(config.seed, step, self.index, counter.PROGRAM)
            for which, side in enumerate(sides):
                self.move(which, self.nearest(missing.abs()) * side, True, key, refresh=True)
        else:
            self._write_verify(sides, wanted, step)
        missed = (self.g[0] - self.g[1] - wanted).abs() > self.ladder[1]
        self.count("missed", (hit & missed).sum())
        fresh = self._read_out(counter.key(config.seed, step, self.index, counter.WRITE, 1))
        self.weight.copy_(torch.where(hit, fresh, self.weight))

    def _write_verify(self, sides: Tensor, wanted: Tensor, step: int) -> None:
        """Send one pulse at a time and read after each, until at most half a step of the average device is missing.

        `sides` ``(2, in, out)`` marks the devices to pulse, and `wanted` ``(in, out)`` is the conductance difference to reach.
        A device receives no more pulses once it is at the end of its range, or if a pulse does not change it although there is
        no cycle noise. Each device receives at most twice as many pulses as the ladder has steps.
        """
        steps = self.ladder.diff()
        for trial in range(2 * len(steps)):
            missing = wanted - (self.g[0] - self.g[1])
            here = steps[self.nearest(self.g).clamp(max=len(steps) - 1)]
            sides = sides & (torch.stack([missing, -missing]) > here / 2)
            if not sides.any():
                return
            before = self.g.clone()
            key = counter.key(self.config.seed, step, self.index, counter.PROGRAM, trial)
            for which, side in enumerate(sides):
                self.move(which, side.long(), True, key, refresh=True)
            self.count("reads", 2 * sides.sum())
            stays = (self.g == before) & (self.config.cycle == 0)
            sides = sides & (self.g < self.laws[..., 5]) & ~stays

    def count(self, name: str, amount: Tensor | int) -> None:
        """Add `amount` to the statistic `name` (see `STATS`)."""
        self.stats[STATS.index(name)] += int(amount)
