"""The adapter to MONAI Label: its server with our models, for 3D Slicer, OHIF and other clients."""
