"""The parts of sweep.py and gallery.py: plain Python, and Pillow for the sheet."""
