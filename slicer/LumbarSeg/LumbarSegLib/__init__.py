"""What the module LumbarSeg does without 3D Slicer."""
