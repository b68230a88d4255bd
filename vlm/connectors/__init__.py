"""Trained weights between a VLM and a diffusion model."""
