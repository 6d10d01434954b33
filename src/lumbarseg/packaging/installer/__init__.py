"""What lies in a pack beside the wheels. `install.py` runs on the other computer, with nothing but its Python."""
