"""Distribution to computers without a network: an offline pack to install, and a page that runs in a browser."""
