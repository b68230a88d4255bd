"""Fetching the models that README recommends, and nothing else: pins, and what brings them."""
