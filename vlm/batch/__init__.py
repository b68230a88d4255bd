"""Many prompts: jobs, shards that survive a kill, workers, a callable for data pipelines."""

from .pipeline import BatchEncoder

__all__ = ["BatchEncoder"]
