"""A check that every experiment must pass."""

from workbench import runs
from workbench.pictures import encode


def runs_and_draws(experiment, config):
    """Check the announced number of records, and draw a figure of the first record, half of them, all, and with pinned runs."""
    records = runs.preview(experiment, config) if experiment.instant else list(runs.stream(experiment, config))
    if experiment.steps:
        assert len(records) == experiment.steps(config)
    for part in (records[:1], records[: len(records) // 2 + 1], records):
        assert encode(experiment.figure(part))[:4] == b"\x89PNG"
    if experiment.pins:
        assert experiment.figure(records, pinned=[("other", records), ("a third", records[:1])])
