"""What results are worth: likeness to references and to words, with its uncertainty."""
