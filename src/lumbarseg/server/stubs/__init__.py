"""Modules that MONAI Label imports and this app never calls; their folder is on the server's PYTHONPATH.

The training job is a process of its own, so these are files and no patches. `pydicom_seg` breaks on pydicom 3, `itk`
is 1.5 GB, and torchvision from the package index does not fit a CPU build of torch.
"""
