"""Compare label maps with references: scores per structure and instance, means with intervals, two models."""
