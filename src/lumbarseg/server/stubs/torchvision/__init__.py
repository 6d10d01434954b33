"""Stub of torchvision, of which MONAI Label imports two functions that draw pictures of batches."""
