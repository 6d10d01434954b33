"""From prepared datasets to a model file; the only room that knows torch."""
