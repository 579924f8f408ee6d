"""Runs a model to fit the tables of KV codecs, and to measure what a codec does to its answers. Needs torch."""
