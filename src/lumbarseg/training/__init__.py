"""Training: from prepared datasets to a model file. The only room that imports torch."""
