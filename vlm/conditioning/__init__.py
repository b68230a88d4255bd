"""What leaves the library: entries of a conditioning, checked, kept as files."""
