"""The loop of annotation: which exam a person sees next, training on what was corrected, and what is published."""
