"""Evaluate a model, or the label files of another program, on the cases of prepared datasets."""
