"""Many pieces of work, each done once: what was done before is known by content, and whoever dies loses one piece."""
