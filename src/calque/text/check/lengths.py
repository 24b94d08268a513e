"""Pairs whose sides differ in length far more than is usual in their corpus."""

from array import array
from math import log

import numpy as np
from jaxtyping import Int64

SHORT = 20
"""Characters of the longer side below which a ratio of lengths says nothing."""


class LengthRatios:
    """The logarithms of target length over source length, in characters: 4 bytes per pair.

    What is usual is the corpus' own: Chinese has a third of the characters of its English. A pair
    is an outlier if its logarithm lies more than 5 standard deviations from the median, and its
    ratio is more than 2 times off the median ratio. The standard deviation is taken as 1.4826 times
    the median absolute deviation, which the outliers themselves hardly move (Leys et al. 2013,
    doi:10.1016/j.jesp.2013.03.013). Pairs with fewer than 20 characters on both sides do not count.
    """

    def __init__(self) -> None:
        self._logs = array("f")

    def add(self, source: str, target: str) -> None:
        """Remember a pair, neither side of which is empty."""
        counts = max(len(source), len(target)) >= SHORT
        self._logs.append(log(len(target) / len(source)) if counts else float("nan"))

    def outliers(self) -> Int64[np.ndarray, "found"]:
        """The outliers by their order among the pairs added, the worst first."""
        logs = np.frombuffer(self._logs, dtype=np.float32)
        long_enough = np.flatnonzero(~np.isnan(logs))
        if not len(long_enough):
            return long_enough
        logs = logs[long_enough]
        distance = np.abs(logs - np.median(logs))
        bound = max(5 * 1.4826 * np.median(distance), log(2))
        worst_first = np.argsort(-distance, kind="stable")
        return long_enough[worst_first[: np.count_nonzero(distance > bound)]]
