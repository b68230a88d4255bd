"""Many prompts through a data pipeline, such as Ray Data; the command line has its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..load import load
from ..quoted import told
from .encode import encode_jobs
from .jobs import Job, Provenance, make_job, read_options
from .recipe import Recipe
from .shards import held, index_row
from .worker import find_device


class BatchEncoder:
    """Encodes batches of rows, one conditioning file a row; the model loads once an instance.

    It is made for the public API of Ray Data and knows nothing of it: a batch is a dict of columns.
    Rows have the keys of a jobs line (`python -m vlm encode --help`), `id` is needed::

        import ray
        from vlm.batch import BatchEncoder

        done = ray.data.read_json("jobs.jsonl", lines=True).map_batches(
            BatchEncoder,
            fn_constructor_kwargs={
                "model": "models/Qwen3-VL-4B-Instruct", "out": "encoded", "alpha": 0.3
            },
            batch_size=32,
            concurrency=2,
            num_gpus=1,
        )
        done.filter(lambda row: row["error"] != "").show()

    Files are as those of a shard (`<id>.safetensors`, written in one step). A row whose file is
    there, made from the same options, is not made again, so a pipeline that starts over, or a
    batch that is tried again, loses nothing. Paths in `model`, `out` and `place` must mean the
    same on every machine.
    """

    def __init__(
        self,
        model: str | Path,
        out: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        place: str | Path = ".",
        **options: Any,
    ):
        """Loads the model.

        Args:
            model: As in `vlm.load`.
            out: Folder of the files; made if it is missing.
            device: As on the command line; `auto` = the graphics card if one is visible.
            dtype: As in `vlm.load`.
            place: Where relative paths of the rows start.
            **options: What holds where a row is silent: `target="z-image"`, `layers=-8`, ...

        Raises:
            ValueError: A bad option, model or device.
            FileNotFoundError: The model is not there.
        """
        self._defaults = Recipe(**read_options(options))
        self._maker = Provenance(Path(model).name, dtype)
        self._out, self._place = Path(out), Path(place)
        self._model = load(model, find_device(device), dtype)
        self._out.mkdir(parents=True, exist_ok=True)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Encodes a batch.

        Args:
            batch: Columns of equal length, NumPy arrays or lists. None and NaN are as good as no
                key in that row.

        Returns:
            Columns `id`, `file` (path, "" where it failed), `tokens`, `width` (0 where it failed)
            and `error` ("" where all went well), a row for each row of the batch, in order.

        Raises:
            OSError: A file cannot be written, such as on a full disk.
        """
        rows = [_row(batch, number) for number in range(len(next(iter(batch.values()), ())))]
        errors: dict[int, str] = {}
        jobs: dict[int, Job] = {}
        taken: set[str] = set()
        done: dict[str, str] = {}
        for number, row in enumerate(rows):
            try:
                job = self._job(row)
                if job.id in taken:
                    raise ValueError(f"id {told(job.id)} is there twice. Give each row its own.")
                done |= held(self._out, [job])
                jobs[number] = job
                taken.add(job.id)
            except (ValueError, OSError, OverflowError) as error:
                errors[number] = str(error)
        failed = {
            outcome.job.id: outcome.error
            for outcome in encode_jobs(
                self._model, list(jobs.values()), done, self._out, self._maker
            )
            if outcome.error
        }
        errors |= {number: failed[job.id] for number, job in jobs.items() if job.id in failed}
        made = [self._told(jobs.get(number), errors.get(number, "")) for number in range(len(rows))]
        ids = [str(row.get("id", "")) for row in rows]
        columns = {key: np.array([one[key] for one in made]) for key in made[0]} if made else {}
        return {"id": np.array(ids), **columns}

    def _job(self, row: Mapping[str, Any]) -> Job:
        given = read_options(row)
        if "id" not in given:
            raise ValueError("This row has no id. Give each its own: it names the file.")
        return make_job(given.pop("id"), given, self._defaults, self._maker, self._place)

    def _told(self, job: Job | None, error: str) -> dict[str, Any]:
        """The columns of a row but its id."""
        if job is None or error:
            return {"file": "", "tokens": 0, "width": 0, "error": error}
        row = index_row(self._out, job)
        file = str(self._out / row["file"])
        return {"file": file, "tokens": row["tokens"], "width": row["width"], "error": ""}


def _row(batch: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    """One row as JSON has it, without what is missing in it."""
    row = {key: _plain(column[number]) for key, column in batch.items()}
    return {key: value for key, value in row.items() if value is not None and value == value}


def _plain(value: Any) -> Any:
    """A value of a NumPy column as JSON has it."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, dict):  # a turn of a conversation
        return {key: _plain(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value
