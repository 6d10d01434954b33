"""Active learning: which exam to annotate next, pseudo-labels, training on corrected exams, versions of models."""
