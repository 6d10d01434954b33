"""The annotation server: MONAI Label with lumbarseg's models, for 3D Slicer, OHIF and other clients."""
