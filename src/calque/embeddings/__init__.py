"""Vectors of a vocabulary's pieces, learnt from text alone, that embeddings can start from."""
