"""Built-in toy models."""
