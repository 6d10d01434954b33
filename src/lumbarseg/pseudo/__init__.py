"""Labels for exams that nobody drew, by several models together: merged by confidence, doubts written down."""
