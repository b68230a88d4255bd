"""Files of models: found, checked, mapped into memory."""
