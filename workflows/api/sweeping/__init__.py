"""The parts of sweep.py: plain Python, and Pillow for the sheet."""
