"""Puts a model where there is no network: everything to install, or one page that runs by itself."""
