"""Pictures and videos, from what a person hands over to patches."""
