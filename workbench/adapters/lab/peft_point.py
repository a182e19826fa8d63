"""Any adapter of PEFT as a further point of a comparison, where `peft` is installed."""

from __future__ import annotations

import json
import warnings
from typing import Any

from torch import Tensor

from workbench.adapters.attach import targeted
from workbench.adapters.lab.tuning import Tuner
from workbench.knobs import KnobError
from workbench.training import drawn


def read(text: str) -> dict[str, Any]:
    """PEFT's config from JSON; raises KnobError where it is none, or where PEFT is not installed."""
    try:
        found = json.loads(text)
        found["peft_type"] = str(found["peft_type"]).upper()
    except (ValueError, KeyError, TypeError):
        example = json.dumps({"peft_type": "VERA", "r": 64})
        raise KnobError(f"peft={text!r}: expected a PEFT config as JSON with its peft_type, such as {example}") from None
    return found


def label(text: str) -> str:
    """What a point of this config is called."""
    return f"PEFT {read(text)['peft_type']}"


class PeftTuner(Tuner):
    """A fine-tuning whose adapter PEFT puts on; its config is the fit's ``peft``."""

    def put_on(self, **more: Any) -> list[dict[str, Any]]:  # noqa: D102
        try:
            import peft
        except ImportError:
            raise KnobError("peft is not installed; run: pip install peft") from None
        about = {"target_modules": sorted({n.rpartition(".")[2] for n in targeted(self.model, None)}), **read(self.config.peft)}
        try:
            with drawn(self.config.seed), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of PEFT, about transformers
                wrapped = peft.get_peft_model(self.model, peft.get_peft_config(about))
        except (TypeError, ValueError, KeyError) as error:
            raise KnobError(f"peft={self.config.peft}: PEFT refuses it: {error}") from error
        self.lm.model = wrapped.get_base_model()
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": self.config.lr}]

    def updates(self) -> dict[str, Tensor]:
        """None: what PEFT's layers add to a weight has no common form."""
        return {}
