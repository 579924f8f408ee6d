"""Experiments that anyone can repeat with one command, on the product's own code."""
