"""The versions of transformers that the pack was tested with, oldest first."""

TESTED = ("5.24.0",)
