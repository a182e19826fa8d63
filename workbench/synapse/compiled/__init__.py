"""The compiled implementation of `layer`, `rules` and `network`.

It is compiled by numba, is faster than these modules, and gives the same results up to rounding. It is imported only when it is
first used, since importing numba takes time.
"""
