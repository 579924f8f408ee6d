"""Runs a model to fit the tables of KV codecs, and to measure what codecs do to its answers; needs torch."""
