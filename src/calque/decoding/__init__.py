"""Search: from a model's probabilities to the best targets of a source."""

from calque.decoding.beam import beam_search
from calque.decoding.greedy import greedy_search
from calque.decoding.hypothesis import Search

SEARCHES: dict[str, Search] = {"greedy": greedy_search, "beam": beam_search}
