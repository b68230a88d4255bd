"""What a conditioning looks like, as a picture."""
