"""Sounds of a prompt, as the models hear them."""
