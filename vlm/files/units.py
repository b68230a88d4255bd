"""Units of memory, as the widgets count them."""

KILOBYTE = 1024
MEGABYTE = 1024**2
GIGABYTE = 1024**3
