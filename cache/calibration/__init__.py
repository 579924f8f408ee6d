"""What codecs know about a model before they see its KV: statistics of texts, fitted to tables."""
