"""usidstreamd: the machine next to the disk."""
