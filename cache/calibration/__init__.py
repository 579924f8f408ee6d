"""What codecs know about a model before they see its KV: statistics of calibration texts, fitted to tables."""
