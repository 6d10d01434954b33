"""The part of the module LumbarSeg that does not need 3D Slicer."""
