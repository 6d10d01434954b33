"""Figures of the README: accuracy on real exams, speed, memory and size, each with the command that prints it."""
