"""The real gateway and a real browser over a lossy link between two network namespaces."""
