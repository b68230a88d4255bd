"""Models taken apart and run, one decoder layer at a time, nothing twice."""
