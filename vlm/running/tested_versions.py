"""The versions of transformers that the pack was tested with, oldest first."""

TESTED = ("4.57.6", "5.10.4", "5.24.0")
