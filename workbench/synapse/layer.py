"""A layer whose weights are devices: forward and transposed reads, pulses, refresh. The readable form.

A weight is ``scale (g+ - g-)``, a differential pair, or ``2 scale (g - g_ref)``, one device with a reference. The scheme says
which device is pulsed: `uni` raises g+ for an increase and g- for a decrease and never uses LTD (the paper's proposal);
`push-pull` raises one and lowers the other; `alternating` does one of these two at random, with the step of `uni`
(our control, matched in granularity); `reference` has one device. The paper's own circuit is not public (note, section 1.5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.synapse import counter
from workbench.synapse.devices import Table, geometric, interpolate
from workbench.synapse.options import SynapseConfig
from workbench.synapse.variation import draw_laws

STATS = (
    "pulses",  # of training, all devices
    "clipped",  # of these, pulses at a device that was at its end
    "refreshed",  # pairs
    "reads",  # of devices, by refresh
    "resets",  # of devices, by refresh
    "refresh_pulses",
    "failed",  # refreshed pairs that missed their weight by more than one first step
    "active",  # hidden outputs with derivative 1
    "high",  # hidden outputs at their upper end
)


class SynapseLayer(nn.Module):
    """``(inputs, outputs)`` synapses. State: `g` ``(2, in, out)``, `laws` ``(2, in or 1, out or 1, 6)``, `weight` ``(in, out)``.

    `weight` is what is read: it differs from ``scale (g+ - g-)`` only by write noise. All random numbers are counted from
    `seed` and the layer's `index`, so that they depend on nothing else.
    """

    def __init__(
        self, inputs: int, outputs: int, config: SynapseConfig, scale: float, index: int, dtype=torch.float32
    ):
        super().__init__()
        config = config.resolved()
        self.config, self.index, self.device_law = config, index, config.make_device()
        self.single = config.scheme == "reference"
        self.max_weight, self.scale = scale, 2 * scale if self.single else scale
        generator = torch.Generator().manual_seed(counter.key(config.seed, index))
        start = (2 * torch.rand(inputs, outputs, generator=generator, dtype=torch.float64) - 1) / inputs**0.5
        devices = torch.Generator().manual_seed(
            counter.key(config.seed, index, 1)
        )  # apart: none leaves the start as it was
        laws = draw_laws(self.device_law, config, inputs, outputs, devices)
        self.clamped = laws.clamped
        self.register_buffer("laws", laws.values.to(dtype))
        self.register_buffer("ladder", self.device_law.ladder())
        self.register_buffer("g", self._programmed(start / scale).to(dtype))
        if config.rule == "float":
            self.register_buffer("weight", start.clamp(-scale, scale).to(dtype))
        else:
            self.register_buffer(
                "weight", self._read_out(counter.key(config.seed, index, 0, counter.PROGRAM))
            )
        self.register_buffer(
            "pending",
            torch.zeros_like(self.weight) if config.rule == "netted" else torch.zeros(1, 1, dtype=dtype),
        )
        self.stats = torch.zeros(len(STATS), dtype=torch.int64)

    @property
    def reference(self) -> float:
        """The conductance that stands for weight 0 in the reference scheme."""
        middle = self.config.reference == "middle"
        return 0.5 if middle else (self.device_law.symmetry_point() or 0.5)

    @property
    def unit(self) -> float:
        """Expected change of the weight by one pulse where the devices usually are (note, section 1.4).

        Pairs that are refreshed live near Gmin: the first step. Others live about the middle.
        """
        at = torch.tensor(
            0.0 if self.config.scheme == "uni" else self.reference if self.single else 0.5,
            dtype=torch.float64,
        )
        up, down = self.device_law.rise(at).item(), self.device_law.fall(at).item()
        if self.config.scheme == "uni":
            return self.max_weight * up
        return self.max_weight * (up + down) / 2 * (1 if self.config.scheme == "alternating" else 2)

    def _programmed(self, target: Tensor) -> Tensor:
        """Conductances on the nominal ladder nearest to a weight of `target` times the scale, within each device's range."""
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
        """Number of pulses from Gmin after which the nominal device is nearest to g."""
        i = torch.searchsorted(self.ladder, g.double().contiguous()).clamp(1, len(self.ladder) - 1)
        return torch.where(g - self.ladder[i - 1] <= self.ladder[i] - g, i - 1, i)

    def _read_out(self, key: int) -> Tensor:
        difference = self.g[0] - self.g[1]
        if self.config.write_noise:
            difference = difference + self.config.write_noise * self._normal(key)
        return self.scale * difference

    def _normal(self, key: int) -> Tensor:
        return counter.normal(key, *self.g.shape[1:], self.g.dtype, self.g.device)

    def write(self, weight: Tensor, step: int = 0) -> int:
        """Transfer `weight` open-loop: reset all devices, then count pulses on the nominal ladder.

        Returns how many weights were beyond the largest one, and so were cut.
        """
        wanted = weight.double() / self.scale
        self.g.copy_(self.laws[..., 4].expand_as(self.g))
        key = counter.key(self.config.seed, step, self.index, counter.PROGRAM)
        if self.single:
            self.g[1] = self.reference
            self._move(0, self.nearest((wanted + self.reference).clamp(0, 1)), True, key, refresh=True)
        else:
            counts = self.nearest(wanted.abs().clamp(max=1))
            self._move(0, counts * (wanted > 0), True, key, refresh=True)
            self._move(1, counts * (wanted < 0), True, key, refresh=True)
        self.weight.copy_(self._read_out(counter.key(self.config.seed, step, self.index, counter.WRITE, 1)))
        return int((weight.abs() > self.max_weight * (1 + 1e-6)).sum())

    def read(self, x: Tensor, step: int, transposed: bool = False) -> Tensor:
        """Summed currents ``(batch, out)`` of rows driven at `x`; transposed, columns are driven and rows sensed."""
        z = x @ (self.weight.T if transposed else self.weight)
        if self.config.read_noise:
            purpose = counter.TRANSPOSED if transposed else counter.READ
            key = counter.key(self.config.seed, step, self.index, purpose)
            z = z + self.config.read_noise * counter.normal(key, *z.shape, z.dtype, z.device)
        return z

    def pulse(self, counts: Tensor, step: int) -> None:
        """Send `counts` ``(in, out)`` whole pulses: positive raise the weight, negative lower it."""
        seed, index, scheme = self.config.seed, self.index, self.config.scheme
        up, down = counts.clamp(min=0), (-counts).clamp(min=0)
        key = counter.key(seed, step, index, counter.CYCLE)
        if scheme == "uni":
            self._move(0, up, True, key)
            self._move(1, down, True, key)
        elif scheme == "reference":
            self._move(0, up, True, key)
            self._move(0, down, False, key)
        else:
            first = second = torch.ones_like(counts, dtype=torch.bool)
            if scheme == "alternating":
                coin = counter.key(seed, step, index, counter.COIN)
                first = counter.uniform(coin, *counts.shape, torch.float64, counts.device) < 0.5
                second = ~first
            self._move(0, up * first, True, key)
            self._move(0, down * first, False, key)
            self._move(1, up * second, False, key)
            self._move(1, down * second, True, key)
        changed = counts != 0
        fresh = self._read_out(counter.key(seed, step, index, counter.WRITE))
        self.weight.copy_(torch.where(changed, fresh, self.weight))

    def _move(self, which: int, counts: Tensor, up: bool, key: int, refresh: bool = False) -> None:
        """Pulse device `which` (0: plus, 1: minus) of each synapse `counts` times in one direction."""
        old, law = self.g[which], self.laws[which]
        low, high = law[..., 4], law[..., 5]
        new = self._pulsed(old, law, counts, up)
        if self.config.cycle:
            sigma = self.config.cycle_of_range(self.device_law.levels)
            noise = self._normal(counter.key(key, which)) * sigma * (high - low) * counts.to(old.dtype).sqrt()
            new = torch.clamp(new + noise, low, high)
        if refresh:
            self._count("refresh_pulses", counts.sum())
        else:
            self._count("pulses", counts.sum())
            self._count("clipped", counts[old == (high if up else low)].sum())
        self.g[which] = torch.where(counts > 0, new, old)

    def _pulsed(self, g: Tensor, law: Tensor, counts: Tensor, up: bool) -> Tensor:
        low, high = law[..., 4], law[..., 5]
        if not isinstance(self.device_law, Table):
            if up:
                return torch.clamp(
                    g + (law[..., 0] - law[..., 1] * g) * geometric(counts, law[..., 1]).to(g.dtype),
                    low,
                    high,
                )
            return torch.clamp(
                g - (law[..., 2] + law[..., 3] * g) * geometric(counts, law[..., 3]).to(g.dtype), low, high
            )
        table = self.device_law
        for pulse in range(int(counts.max())):
            share = (g - low) / (high - low).clamp(min=1e-12)
            step = (
                law[..., 0] * interpolate(share, table.knots_up, table.up)
                if up
                else -law[..., 2] * interpolate(share, table.knots_down, table.down)
            )
            g = torch.where(counts > pulse, torch.clamp(g + (high - low) * step, low, high), g)
        return g

    def refresh(self, step: int) -> None:
        """Rewrite saturating pairs: read the difference, reset both devices, program it on the right side (note, section 1.6)."""
        config = self.config
        larger, smaller = self.g.amax(0), self.g.amin(0)
        hit = (larger > config.refresh_above) & (smaller > config.refresh_below)
        self._count("reads", 2 * hit.numel())
        self._count("refreshed", hit.sum())
        self._count("resets", 2 * hit.sum())
        wanted = (self.g[0] - self.g[1]).clone()
        self.g.copy_(torch.where(hit, self.laws[..., 4].expand_as(self.g), self.g))
        if config.refresh == "ideal":
            side = torch.stack([wanted.clamp(min=0), (-wanted).clamp(min=0)])
            exact = torch.clamp(self.g + side, self.laws[..., 4], self.laws[..., 5])
            self.g.copy_(torch.where(hit, exact, self.g))
        elif config.refresh == "open-loop":
            counts = torch.where(hit, self.nearest(wanted.abs()), 0)
            key = counter.key(config.seed, step, self.index, counter.PROGRAM)
            self._move(0, counts * (wanted >= 0), True, key, refresh=True)
            self._move(1, counts * (wanted < 0), True, key, refresh=True)
        else:
            self._write_verify(hit, wanted, step)
        missed = (self.g[0] - self.g[1] - wanted).abs() > self.ladder[1]
        self._count("failed", (hit & missed).sum())
        fresh = self._read_out(counter.key(config.seed, step, self.index, counter.WRITE, 1))
        self.weight.copy_(torch.where(hit, fresh, self.weight))

    def _write_verify(self, hit: Tensor, wanted: Tensor, step: int) -> None:
        """One pulse and one read in turn, until less than half a nominal step is missing or a pulse no longer helps.

        At most 2 N pulses a device. A partner that is stuck above Gmin is read too, and so made up for.
        """
        top = self.device_law.levels
        for trial in range(2 * top):
            missing = torch.where(wanted >= 0, 1.0, -1.0) * (wanted - (self.g[0] - self.g[1]))
            at = self.nearest(torch.where(wanted >= 0, self.g[0], self.g[1]))
            hit = hit & (missing > (self.ladder[(at + 1).clamp(max=top)] - self.ladder[at]) / 2)
            if not hit.any():
                return
            before = self.g.clone()
            key = counter.key(self.config.seed, step, self.index, counter.PROGRAM, trial)
            self._move(0, (hit & (wanted >= 0)).long(), True, key, refresh=True)
            self._move(1, (hit & (wanted < 0)).long(), True, key, refresh=True)
            self._count("reads", 2 * hit.sum())
            hit = hit & (self.g != before).any(0)

    def _count(self, name: str, amount: Tensor | int) -> None:
        self.stats[STATS.index(name)] += int(amount)
