"""The files of a pack beside its wheels. `install.py` runs on the target computer and needs nothing but Python."""
