# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Weights of a teacher: the embedded file, a user's file, the Hugging Face cache or hub; checked before use."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from threading import Thread
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_session, hf_hub_url, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from safetensors.torch import load_file
from timm.models import load_state_dict
from torch import Tensor, nn

from anomalib_mkd.networks.backbone import QUICKSTART, create_network, list_stages

logger = logging.getLogger(__name__)


def pretrained_state(backbone: str, layers: Sequence[str], weights: str | None) -> dict[str, Tensor]:
    """Load the weights that a teacher's network needs.

    Args:
        backbone: timm's name, or ``"quickstart"`` for the embedded weights.
        layers: Taps, shallow to deep; weights after the deepest one are not needed.
        weights: File with weights for the backbone; ``None`` for timm's.

    Returns:
        A state dictionary in f32, with the names of the network or, for a chain, of its steps.

    Raises:
        FileNotFoundError: If the file does not exist.
        RuntimeError: If nothing is cached and the hub cannot be reached or the cache not be written, or the file does
            not fit the backbone.
    """
    if backbone == QUICKSTART:
        state = load_file(str(resources.files("anomalib_mkd") / "weights" / "quickstart_teacher.safetensors"))
        logger.info("Teacher: the embedded one.")
    else:
        file = weights or _hub_file(backbone)
        state = _timm_state(backbone, layers, file)
        logger.info("Teacher: %s from %s.", backbone, file or "timm's download")
    return {name: value.float() for name, value in state.items()}


def _hub_file(backbone: str) -> str | None:
    """Find the weights of a backbone in the Hugging Face cache, or make sure that the hub and the cache can be used.

    The hub's client retries for about a minute, and its error explains little.

    Returns:
        The cached file; ``None`` if timm has to download it.
    """
    repository = _repository(backbone)
    if not repository:
        return None
    cached = cached_weights(backbone)
    reason = None if cached else why_unreachable(backbone)
    if reason:
        msg = (
            f"Expected the ImageNet weights of {backbone!r} in the Hugging Face cache or on the hub, got neither: "
            f"'model.safetensors' of '{repository}' is not cached and the hub cannot be reached ({reason}). Set "
            "HF_HOME to a cache that holds it, pass a file with weights='PATH', or use the embedded teacher with "
            f"weights='{QUICKSTART}' (on the command line --model.weights)."
        )
        raise RuntimeError(msg)
    unwritable = None if cached else why_unwritable()
    if unwritable:
        msg = (
            f"Expected a Hugging Face cache for the ImageNet weights of {backbone!r} that can be written, got "
            f"{unwritable}. Set HF_HOME to a writable folder."
        )
        raise RuntimeError(msg)
    return cached


def _repository(backbone: str) -> str | None:
    """Return the hub's name for the weights of a backbone, if they are there."""
    config = timm.get_pretrained_cfg(backbone)
    return config.hf_hub_id if config else None


def cached_weights(backbone: str) -> str | None:
    """Find the weights of a backbone in the Hugging Face cache.

    Args:
        backbone: timm's name.

    Returns:
        The file; ``None`` if it is not there.
    """
    repository = _repository(backbone)
    for name in ("model.safetensors", "pytorch_model.bin"):
        cached = try_to_load_from_cache(repository, name) if repository else None
        if isinstance(cached, str):
            return cached
    return None


def why_unreachable(backbone: str, timeout: float = 10) -> str | None:
    """Ask the hub for the smallest file beside the weights of a backbone.

    Args:
        backbone: timm's name, of a network whose weights are on the hub.
        timeout: Seconds to wait, for the name of the hub as for its answer.

    Returns:
        Why it is unavailable; ``None`` if it is not.
    """
    if HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    reasons: list[str | None] = []

    def ask() -> None:
        try:
            answer = get_session().head(hf_hub_url(str(_repository(backbone)), "config.json"), timeout=timeout)
            reasons.append(f"it answered {answer.status_code}" if answer.status_code >= 400 else None)
        except Exception as error:  # noqa: BLE001  # any error of whichever HTTP client is in use
            reasons.append(str(error))

    request = Thread(target=ask, daemon=True)  # looking up a name knows no time-out
    request.start()
    request.join(timeout)
    return reasons[0] if reasons else f"no answer within {timeout:g} s"


def why_unwritable() -> str | None:
    """Try to write to the Hugging Face cache; a user without a home, as of a container, cannot.

    Returns:
        The error; ``None`` if there is none.
    """
    try:
        Path(constants.HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=constants.HF_HUB_CACHE).close()
    except OSError as error:
        return str(error)
    return None


def _timm_state(backbone: str, layers: Sequence[str], file: str | None) -> dict[str, Tensor]:
    """Let timm load weights, and return those that the teacher's network needs; refuse what does not fit it."""
    if file is not None:
        _check_readable(backbone, file)
    stages = list_stages(backbone)
    chain = "pool1" in stages
    arguments = {} if chain else {"out_indices": tuple(stages[name].position for name in layers)}
    overlay = {"file": file} if file else None
    with torch.random.fork_rng(devices=[]), _reports() as reports:
        try:
            net = create_network(backbone, **arguments, pretrained=True, pretrained_cfg_overlay=overlay)
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            remedy = "" if file else "Try again, with HF_HOME set to a folder with room, or set weights to a file."
            raise _unfit(backbone, file, f"for which timm reports: {_shortened(error)}", remedy) from error
    loaded = net.state_dict()
    if chain:  # only the steps up to the last tap are needed
        last = max(stages[name].position for name in layers)
        loaded = {
            name: v for name, v in loaded.items() if int(name.removeprefix("features_").partition(".")[0]) <= last
        }
    _check_names(backbone, file, loaded, reports)
    broken = [name for name, value in loaded.items() if not value.isfinite().all()]
    if broken:
        raise _unfit(backbone, file, f"with values that are not finite in {_first(broken)}")
    zero = [name for name, value in loaded.items() if value.dim() > 1 and not value.any()]
    if zero:  # such a teacher would see nothing, and its student would learn that
        raise _unfit(backbone, file, f"with nothing but zeros in {_first(zero)}", "Copy it again, or save it anew.")
    return {name.removeprefix("features_"): value for name, value in loaded.items()} if chain else loaded


def _check_readable(backbone: str, file: str) -> None:
    """Refuse what holds no tensors by name; unpickles nothing else."""
    if not Path(file).is_file():
        what = "is a folder" if Path(file).is_dir() else "does not exist"
        msg = f"Expected a file with weights for {backbone!r}, got {file!r}, which {what}. Check its path."
        raise FileNotFoundError(msg)
    try:
        load_state_dict(file, weights_only=True)
    except Exception as error:  # whatever a reader raises on a file of another kind
        what = f"which cannot be read as weights ({type(error).__name__}: {_shortened(error)})"
        raise _unfit(backbone, file, what, "Copy it again, or save a state_dict with safetensors or torch.") from error


@contextmanager
def _reports() -> Iterator[list[Any]]:
    """Collect the names that were missing and unexpected in each loading: timm only logs them."""
    load, reports = nn.Module.load_state_dict, []

    def reported(*args: Any, **kwargs: Any) -> Any:
        reports.append(load(*args, **kwargs))
        return reports[-1]

    nn.Module.load_state_dict = reported  # type: ignore[method-assign]
    try:
        yield reports
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]


def _check_names(backbone: str, file: str | None, loaded: Mapping[str, Tensor], reports: Sequence[Any]) -> None:
    """Refuse weights that lack what the teacher needs, or hold what the whole network has not."""
    missing = [name for report in reports for name in report.missing_keys]
    needed = {name.replace(".", "_") for name in loaded if not name.endswith("num_batches_tracked")}
    lacking = [
        name for name in missing if name.replace(".", "_") in needed
    ]  # timm renames `features.0` to `features_0`
    if lacking:
        raise _unfit(backbone, file, f"which lacks {_first(lacking)}", "Use other layers or weights.")
    unexpected = [name for report in reports for name in report.unexpected_keys]
    if unexpected:
        with torch.device("meta"):
            known = timm.create_model(backbone).state_dict().keys()
        surplus = [name for name in unexpected if name not in known]
        if surplus:
            raise _unfit(backbone, file, f"which holds {_first(surplus)} of another network")


def _unfit(backbone: str, file: str | None, what: str, remedy: str = "") -> RuntimeError:
    remedy = remedy or "Set weights to a file for this backbone, or backbone to the file's."
    return RuntimeError(f"Expected weights that fit {backbone!r}, got {file or 'a download'!r}, {what}. {remedy}")


def _first(names: Sequence[str]) -> str:
    """Name the first, and count the others."""
    return f"{names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _shortened(error: Exception) -> str:
    """Return the first line of an error that says something: torch's own lists each tensor below a heading."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    lines = lines[1:] if len(lines) > 1 and lines[0].endswith(":") else lines
    return (lines[0] if lines else "no reason") + (f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else "")
