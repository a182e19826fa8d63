"""The fast twin of `layer`, `rules` and `network`: the same numbers within rounding, compiled by numba. Imported at first use."""
