"""The surfaces: wherever something of a person, or of a stranger, comes into the product."""

from ..case import Prepare
from . import (
    arguments,
    batch_jobs,
    conditioning_files,
    connector_files,
    embeddings,
    file_names,
    model_folders,
    pictures,
    prompts,
    recipes,
    stats_files,
    sweeps,
    text_settings,
    token_maps,
    token_steps,
)

SURFACES: dict[str, Prepare] = {
    "arguments": arguments.prepare,
    "prompts": prompts.prepare,
    "text settings": text_settings.prepare,
    "token maps": token_maps.prepare,
    "token steps": token_steps.prepare,
    "conditioning files": conditioning_files.prepare,
    "statistics files": stats_files.prepare,
    "connector files": connector_files.prepare,
    "model folders": model_folders.prepare,
    "batch jobs": batch_jobs.prepare,
    "sweeps": sweeps.prepare,
    "pictures": pictures.prepare,
    "file names": file_names.prepare,
    "train recipes": recipes.prepare,
    "embeddings": embeddings.prepare,
}
