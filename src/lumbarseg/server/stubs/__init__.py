"""Stub modules that MONAI Label imports and this app never calls; their folder is on the server's PYTHONPATH.

They are files rather than patches because trainings run in processes of their own. `pydicom_seg` fails with pydicom 3,
`itk` has 1.5 GB, and torchvision from the package index does not fit a CPU build of torch.
"""
