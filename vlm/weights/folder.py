"""The files of a model folder in Hugging Face layout, checked before anything large is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..families import FAMILIES, Family
from ..files.json_file import read_json
from ..quoted import reason, told
from .config_values import without_calling
from .other_layouts import weights_instead, where_instead
from .shards import read_index

GENERATION = "generation_config.json"
INDEX = "model.safetensors.index.json"
_OF_THE_WHOLE = ("dtype", "torch_dtype", "quantization_config")
UNBUILDABLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_NAMED = 5  # of missing files in a message
SHARDS = "model-?????-of-?????.safetensors"


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        FileNotFoundError: No folder, or no config.json in it.
        ValueError: It is not a JSON object.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path}. Name a folder that holds a model in Hugging Face layout."
        )
    file = path / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} has no config.json, so it is not a model folder in Hugging Face layout. "
            f"{where_instead(path)}"
        )
    return what_runs(read_json(file))


def what_runs(config: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.json, or the part of it that describes what is run of the model.

    Args:
        config: Of any model.
    """
    for family in FAMILIES.values():
        part, kind = family.inside
        if not part or config.get("model_type") not in (family.model_type, kind):
            continue
        inside = config.get(part, config)
        if isinstance(inside, Mapping):
            said = {key: config[key] for key in _OF_THE_WHOLE if key in config}
            return {**said, **inside, "model_type": family.model_type}
    return config


def read_stops(path: Path, config: dict[str, Any]) -> frozenset[int]:
    """Ids of the tokens that end an answer, as generation_config.json says, or else config.json.

    Args:
        path: A model folder; a single file has no generation_config.json.
        config: Content of config.json.

    Raises:
        ValueError: generation_config.json cannot be read, or `eos_token_id` is not an id or a list
            of ids.
    """
    file = path / GENERATION
    places = [config, config.get("text_config") or {}]
    if path.is_dir() and file.is_file():
        places.insert(0, read_json(file))
    said: Any = next(
        (part["eos_token_id"] for part in places if part.get("eos_token_id") is not None), []
    )
    stops = said if isinstance(said, list) else [said]
    if not all(type(stop) is int for stop in stops):
        raise ValueError(
            f"The eos_token_id in {GENERATION} or config.json of {path} is {told(said)}, "
            f"expected a token id or a list of them. Download {GENERATION} again."
        )
    return frozenset(stops)


def build_config(config: dict[str, Any], family: Family, where: Path) -> Any:
    """The content of config.json as transformers' own object.

    Args:
        config: The content.
        family: The family it names.
        where: Whose it is, for the message.

    Raises:
        ValueError: transformers refuses a value, or is too old for the family; the language
            model inside is not one of the family's.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    if not hasattr(transformers, family.architecture):
        raise ValueError(
            f"transformers {transformers.__version__} has no {family.title}: "
            f"{family.architecture} is missing. Update transformers."
        )
    try:
        built = _build(without_calling(config), family)
    except (*UNBUILDABLE, StrictDataclassError) as error:
        raise unbuildable(where, error) from error
    text = built.get_text_config()
    if not hasattr(text, "pad_token_id"):  # 5.0 and 5.1 read it and do not set it
        text.pad_token_id = None
    inside = text.model_type
    if family.language_models and inside not in family.language_models:
        raise ValueError(
            f"The {family.title} in {where} has a language model of the type {told(inside)}, which "
            f"this pack cannot run; it runs {', '.join(family.language_models)}. Choose another "
            f"{family.title}."
        )
    return built


def _build(config: dict[str, Any], family: Family) -> Any:
    import transformers

    if not any(family.inside):
        return transformers.AutoConfig.for_model(**config)
    kind = getattr(transformers, family.architecture).config_class
    return kind(**{key: value for key, value in config.items() if key != "model_type"})


def unbuildable(where: Path, error: Exception) -> ValueError:
    """What is said of a config.json that transformers cannot build a model from."""
    return ValueError(
        f"No model can be built from the config.json of {where}: transformers says "
        f"{reason(error, 300)}. Download config.json again."
    )


def check_tokenizer(path: Path) -> None:
    """Checks that a folder has tokenizer files that can be parsed.

    Raises:
        FileNotFoundError: Files are missing.
        ValueError: A file is damaged.
    """
    if (path / "tokenizer.json").is_file():
        model = read_json(path / "tokenizer.json").get("model")
        if not isinstance(model, dict) or not model.get("vocab"):
            raise ValueError(f"{path / 'tokenizer.json'} holds no words. Download it again.")
        return
    missing = [name for name in ("vocab.json", "merges.txt") if not (path / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt is "
            "there. Copy the tokenizer files of the model into the folder."
        )
    read_json(path / "vocab.json")


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a model folder, as its index lists them.

    Raises:
        ValueError: One of them is a folder.
        FileNotFoundError: There are none, or the index names one that is not there.
        ValueError: A damaged index, one that points outside the folder, or a shard too many.
    """
    index = path / INDEX
    shards = sorted(file.name for file in path.glob(SHARDS))
    if index.is_file():
        names = sorted(set(read_index(index).values()))
        strange = [name for name in shards if name not in names]
        if strange:
            raise ValueError(
                f"{path} holds {told(strange[0])}, which {INDEX} does not name. Files of different "
                "downloads were mixed; download the folder again."
            )
    else:
        alone = shards and not (path / "model.safetensors").is_file()
        names = [INDEX if alone else "model.safetensors"]
    missing = [name for name in names if not (path / name).is_file()]
    folders = [name for name in missing if (path / name).is_dir()]
    if folders:
        raise ValueError(
            f"{path / folders[0]} is a folder, expected the file of that name. Move the file that "
            "lies in it out of it; an archive may have been unpacked twice."
        )
    if missing:
        more = f" and {len(missing) - _NAMED} more" if missing[_NAMED:] else ""
        raise FileNotFoundError(
            f"{path} lacks {', '.join(missing[:_NAMED])}{more}{weights_instead(path)}. Download "
            "the missing files of the model; weights are read as safetensors only."
        )
    return [path / name for name in names]


def check_weights(path: Path) -> int:
    """Checks that every weight file is whole.

    Returns:
        How many tensors they hold.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is cut short or is not safetensors.
    """
    return sum(len(open_whole(file).keys()) for file in weight_files(path))


def open_whole(file: Path) -> Any:
    """Maps a safetensors file; only its header is read.

    Raises:
        ValueError: It is cut short or is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file} is not a whole safetensors file ({reason(error)}). The download was cut "
            "short; download it again."
        ) from error


def find_adapter(path: Path) -> str | None:
    """What is said of a LoRA that lies beside the weights, which are run without it; None = none.

    Args:
        path: A model folder.
    """
    names = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
    there = next((name for name in names if (path / name).exists()), None)
    if there is None:
        return None
    return (
        f"{path} also holds a LoRA adapter ({there}), which is not applied: the model runs without "
        "it. Merge it into the weights (merge_and_unload of peft), or take it out of the folder."
    )
