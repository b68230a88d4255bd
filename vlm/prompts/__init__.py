"""From text, pictures and a template to tokens with their roles and places."""
