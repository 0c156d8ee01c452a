# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Weights of a teacher: the embedded file, a user's file, the Hugging Face cache or hub; checked before use."""

import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from pickle import UnpicklingError  # only the error
from threading import Thread

import timm
import torch
from huggingface_hub import get_session, hf_hub_url, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

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
        RuntimeError: If the hub cannot be reached and nothing is cached, or the file does not fit the backbone.
    """
    if backbone == QUICKSTART:
        state = load_file(str(resources.files("anomalib_mkd") / "weights" / "quickstart_teacher.safetensors"))
        logger.info("Teacher: the embedded quick-start network.")
    else:
        file = weights or _hub_file(backbone)
        state = _timm_state(backbone, layers, file)
        logger.info("Teacher: %s from %s.", backbone, file or "timm's download")
    return {name: value.float() for name, value in state.items()}


def _hub_file(backbone: str) -> str | None:
    """Find the weights of a backbone in the Hugging Face cache, or make sure that the hub can be reached.

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
            f"weights='{QUICKSTART}'."
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
        Why it was not to be had; ``None`` if it was.
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


def _timm_state(backbone: str, layers: Sequence[str], file: str | None) -> dict[str, Tensor]:
    """Let timm load weights, and return those that the teacher's network needs.

    timm silently accepts a file that holds only part of the tensors. Two networks are therefore built from the same
    seed, with and without the file: a convolution that is equal in both was not in the file.
    """
    if file is not None and not Path(file).is_file():
        msg = f"Expected a file with weights for {backbone!r}, got {file!r}, which does not exist. Check its path."
        raise FileNotFoundError(msg)
    stages = list_stages(backbone)
    chain = "pool1" in stages
    arguments = {} if chain else {"out_indices": tuple(stages[name].position for name in layers)}
    states = []
    with torch.random.fork_rng(devices=[]):
        for pretrained in ({}, {"pretrained": True, "pretrained_cfg_overlay": {"file": file} if file else None}):
            torch.manual_seed(0)
            try:
                states.append(create_network(backbone, **arguments, **pretrained).state_dict())
            except (EOFError, KeyError, RuntimeError, SafetensorError, TypeError, UnpicklingError, ValueError) as error:
                msg = (
                    f"Expected weights that fit {backbone!r}, got {file or 'a download'}, for which timm reports: "
                    f"{error} Set weights to a file for this backbone."
                )
                raise RuntimeError(msg) from error
    random, loaded = states
    if chain:  # timm flattens `features.0.weight` to `features_0.weight`; only the steps up to the last tap are needed
        last = max(stages[name].position for name in layers)
        names = {name: name.removeprefix("features_") for name in loaded}
        loaded = {names[name]: v for name, v in loaded.items() if int(names[name].partition(".")[0]) <= last}
        random = {names[name]: v for name, v in random.items()}
    untouched = [name for name, value in loaded.items() if value.ndim > 1 and torch.equal(value, random[name])]
    if untouched:
        lacks = f"{untouched[0]!r} and {len(untouched) - 1} more"
        msg = f"Expected weights that fit {backbone!r}, got {file!r}, which lacks {lacks}. Use other layers or weights."
        raise RuntimeError(msg)
    return loaded
