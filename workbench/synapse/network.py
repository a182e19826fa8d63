"""A multilayer perceptron whose weights are devices, trained by back-propagation through the device arrays.

This is the readable implementation; `compiled` holds the fast one. Activations drive the rows of an array, and its columns
sum the currents. The output error is target minus output; it is not multiplied by the derivative of the output.
Errors are back-propagated through the same arrays, which are read transposed. The derivative of a hidden activation is 1
if the activation is strictly between its lower and upper limit, and 0 otherwise. The activations and errors of all samples
in a batch are computed with the weights at the start of the batch. Then pulses are sent for each sample in turn, except
with the rule `netted`, which sums the gradients and sends pulses once for each batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.synapse import counter
from workbench.synapse.config import SynapseConfig
from workbench.synapse.layer import STATS, SynapseLayer
from workbench.synapse.rules import netted_counts, pulse_counts


class SaturationError(RuntimeError):
    """Raised if all activations of a hidden layer are at a limit, so that no error is back-propagated.

    The message suggests a fix.
    """


class Perceptron(nn.Module):
    """A perceptron with layers of the given `sizes` (inputs, hidden units, outputs). `config` sets its devices and updates.

    Raises ValueError if the device has no step at the conductances that `config.scheme` uses, or if an input of 1 and an error of
    1 request more pulses than a device has levels. The rule `float` needs neither check, and the rule `single` only the first. A
    network that passes the second check can still request more pulses than a device has levels: back-propagated errors may be
    larger than 1, and the rule `netted` sums the gradients of a batch.
    """

    def __init__(self, sizes: list[int], config: SynapseConfig, dtype: torch.dtype = torch.float32):
        super().__init__()
        config = config.resolved()
        self.config, self.sizes, self.step = config, sizes, 0
        extra, scales = int(config.bias), config.scales(sizes)
        self.layers = nn.ModuleList(
            SynapseLayer(n + extra, m, config, scale, index, dtype)
            for index, (n, m, scale) in enumerate(zip(sizes[:-1], sizes[1:], scales, strict=True))
        )
        if config.rule != "float":
            self._check_rate()

    def _check_rate(self) -> None:
        for layer in self.layers:
            if not layer.unit > 0:
                raise ValueError(
                    f"scheme={self.config.scheme!r}: this device has no step at the conductances that this scheme uses (its "
                    "LTP and LTD curves do not overlap there); use curves that share a part of the range, or set scheme='uni'"
                )
            worst = self.config.rate / layer.unit
            if self.config.rule != "single" and worst > layer.device_law.levels:
                raise ValueError(
                    f"rate={self.config.rate}: an input of 1 and an error of 1 request {worst:.0f} pulses in layer "
                    f"{layer.index + 1}, whose devices have {layer.device_law.levels} levels; expected a rate of at most "
                    f"{layer.device_law.levels * layer.unit:.2g}"
                )

    # -- reading ------------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(batch, classes)``, in [0, 1], for inputs `x` ``(batch, inputs)``."""
        return self.activations(x)[-1]

    def activations(self, x: Tensor, purpose: int = counter.LOOK) -> list[Tensor]:
        """Return a list with the inputs of each layer, including the bias input if there is one, followed by the outputs.

        `purpose` chooses the random numbers of the read noise: ``counter.READ`` in training, ``counter.LOOK`` in evaluation.
        """
        found = []
        for layer in self.layers:
            x = torch.cat([x, x.new_ones(len(x), 1)], 1) if self.config.bias else x
            found.append(x)
            z = layer.read(x, self.step, purpose)
            last = layer is self.layers[-1]
            x = (z + 0.5).clamp(0, 1) if last else z.clamp(0 if self.config.activation == "clip" else -1, 1)
        return [*found, x]

    def errors(self, activations: list[Tensor], labels: Tensor) -> list[Tensor]:
        """Return a list with the errors ``(batch, out)`` of each layer.

        The error of the last layer is target minus output, and the errors of the other layers are back-propagated. All errors
        are quantized to the precision that the config sets.
        """
        outputs = activations[-1]
        target = torch.zeros_like(outputs).scatter_(1, labels[:, None], 1.0)
        found = [self._quantized(target - outputs, hidden=False)]
        for index in range(len(self.layers) - 1, 0, -1):
            hidden = activations[index][:, : self.sizes[index]]
            low = 0 if self.config.activation == "clip" else -1
            gate = (hidden > low) & (hidden < 1)
            back = self.layers[index].read(found[0], self.step, counter.TRANSPOSED)[:, : self.sizes[index]]
            self.layers[index - 1].count("active", gate.sum())
            self.layers[index - 1].count("high", (hidden >= 1).sum())
            found.insert(0, self._quantized(gate * back, hidden=True))
        return found

    def _quantized(self, error: Tensor, hidden: bool) -> Tensor:
        kind = self.config.error
        if kind == "exact":
            return error
        if kind == "ternary":
            zone = self.config.error_threshold / 2 if hidden else self.config.error_threshold
            return error.sign() * (error.abs().double() > zone)
        steps = 2 ** (int(kind.split()[0]) - 1) - 1
        size = (error.abs().double() * steps + 0.5).floor().clamp(max=steps) / steps
        return error.sign() * size.to(error.dtype)

    # -- training -----------------------------------------------------------------------------------------------------

    def train_batch(self, x: Tensor, labels: Tensor) -> int:
        """Train on one batch with the readable implementation.

        The outputs of all samples are computed, and the errors are back-propagated. Then pulses are sent for each sample in turn
        (with the rule `netted`, once for the batch). Returns the number of samples that were classified correctly before the
        update.
        """
        activations = self.activations(x, counter.READ)
        errors = self.errors(activations, labels)
        for sample in range(len(x)):
            for layer, a, d in zip(self.layers, activations, errors, strict=False):
                self._update(layer, a[sample], d[sample], last=sample == len(x) - 1)
            self.step += 1
            if self.config.refreshes and self.step % self.config.refresh_every == 0:
                for layer in self.layers:
                    layer.refresh(self.step)
        return int((activations[-1].argmax(1) == labels).sum())

    def _update(self, layer: SynapseLayer, x: Tensor, delta: Tensor, last: bool) -> None:
        config, key = self.config, (self.config.seed, self.step, layer.index)
        if config.rule == "float":
            layer.weight.add_(torch.outer(x * config.rate, delta)).clamp_(-layer.max_weight, layer.max_weight)
        elif config.rule == "netted":
            layer.pending.add_(torch.outer(x, delta))
            if last:
                layer.pulse(netted_counts(config, layer.pending, layer.unit, key), self.step)
                layer.pending.zero_()
        else:
            hidden = layer is not self.layers[-1]
            layer.pulse(pulse_counts(config, x, delta, layer.unit, hidden, key), self.step)

    def train_samples(self, x: Tensor, labels: Tensor, order: Tensor, compiled: bool | None = None) -> int:
        """Train on the samples ``x[order]``, and return how many were classified correctly before the update.

        `x` is ``(n, inputs)`` in the dtype of the network. `labels` ``(n,)`` holds classes, and `order` holds indices of samples.
        Each call starts a new batch. `compiled` chooses the compiled (True) or the readable (False) implementation; their results
        are equal up to rounding. None chooses the compiled implementation on a CPU, and the readable one on a GPU. Raises
        ValueError if the arrays do not fit the network. Raises SaturationError if all activations of a hidden layer are at a
        limit during the first 100 samples.
        """
        self._check_samples(x, labels, order)
        first = self.step
        batches = -(-max(0, 100 - first) // self.config.batch)  # the number of batches that contain the first 100 samples
        head = order[: batches * self.config.batch] if len(self.layers) > 1 else order[:0]
        right = self._train(x, labels, head, compiled)
        if first < 100 <= self.step:
            self._check_saturation(x[order[:100]])
        return right + self._train(x, labels, order[len(head) :], compiled)

    def _check_samples(self, x: Tensor, labels: Tensor, order: Tensor) -> None:
        """Raise ValueError if the arrays do not fit the network.

        The check is needed because the compiled loop does not check bounds, and would read outside the arrays.
        """
        weight = self.layers[0].weight
        if x.ndim != 2 or x.shape[1] != self.sizes[0] or x.dtype != weight.dtype:
            raise ValueError(f"x: {tuple(x.shape)}, {x.dtype}; expected shape (samples, {self.sizes[0]}) and {weight.dtype}")
        for name, values, end in (("labels", labels, self.sizes[-1]), ("order", order, len(x))):
            if len(values) and (int(values.min()) < 0 or int(values.max()) >= end):
                raise ValueError(f"{name}: values from {int(values.min())} to {int(values.max())}; expected 0 to {end - 1}")
        if not bool(torch.isfinite(x.sum())):  # checking the sum saves the memory of a mask as large as x
            raise ValueError("x: some inputs are infinite or NaN (not a number); expected finite numbers")
        if labels.shape != (len(x),):
            raise ValueError(f"labels: shape {tuple(labels.shape)}; expected one label for each of {len(x)} samples")

    def _train(self, x: Tensor, labels: Tensor, order: Tensor, compiled: bool | None) -> int:
        if not len(order):
            return 0
        if compiled or (compiled is None and x.device.type == "cpu"):
            from workbench.synapse.compiled.train import train  # imported here, since importing numba takes a second

            return train(self, x, labels, order)
        parts = order.split(self.config.batch)
        return sum(self.train_batch(x[part], labels[part]) for part in parts)

    def _check_saturation(self, x: Tensor) -> None:
        for layer, a in zip(self.layers[:-1], self.activations(x), strict=False):
            if layer.stats[STATS.index("active")] == 0:
                z, units = a @ layer.weight, layer.weight.shape[1]
                end = "upper" if int(layer.stats[STATS.index("high")]) > 50 * units else "lower"
                raise SaturationError(
                    f"layer {layer.index + 1}: for the first 100 samples, all {units} hidden units are at their {end} limit "
                    f"(sums from {z.min():.2g} to {z.max():.2g}, weights up to {layer.max_weight:.3g}), so no error is "
                    f"back-propagated; {self._cure(layer, a)}"
                )

    def _cure(self, layer: SynapseLayer, a: Tensor) -> str:
        typical, start = a.square().sum(1).mean().sqrt().item(), len(layer.weight) ** -0.5
        if not typical:
            return "all inputs of the layer are 0; check the data or the previous layer"
        if not layer.weight.any():
            return (
                f"all weights are 0, since the initial weights (at most {start:.2g}) are less than half a step; "
                f"try weight_scale={start / layer.ladder[1].item():.2g}"
            )
        return f"try weight_scale={min(1.5 / typical, 1.0):.2g}"

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """Return the share of the inputs `x` ``(n, inputs)`` that are classified as their `labels` ``(n,)``."""
        with torch.no_grad():
            return (self(x).argmax(1) == labels).double().mean().item()

    def counts(self) -> dict[str, int]:
        """Return the statistics of the training so far, summed over all layers. Their names are listed in `layer.STATS`."""
        return dict(zip(STATS, sum(layer.stats for layer in self.layers).tolist(), strict=True))
