"""`doctor`: what to paste into a bug report."""

import argparse
import contextlib
import os
import platform
import stat
from importlib import metadata
from pathlib import Path
from shlex import quote
from typing import Any

from ecg_transformers.cli.output import Verbs, add_json, add_verb, for_people, print_json, say

PACKAGES = (
    *("ecg_transformers", "torch", "transformers", "datasets", "safetensors", "huggingface-hub", "accelerate", "wfdb"),
    *("evaluate", "numpy", "scipy"),
)


def add_verbs(verbs: Verbs) -> None:
    text = "Say which versions, devices, threads and folders are in use."
    doctor = add_verb(verbs, "doctor", text, "doctor --json")
    add_json(doctor)
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    facts = collect()
    if not for_people(options):
        print_json([facts])
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")
    from ecg_transformers.data.readers.clinical.identity import KEY_NAME

    print()
    say(
        "What the cache holds is made again when asked for, except checkpoint files that you brought and the key of the "
        "stand-ins for patient ids. To clear the rest:"
    )
    kept = " ".join(f"! -name {name}" for name in (Path(facts["checkpoint_files"]).name, KEY_NAME))
    print(f"  find {quote(facts['cache'])} -mindepth 1 -maxdepth 1 {kept} -exec rm -r {{}} +")
    print(f"Its part with converted checkpoints alone: rm -r {quote(facts['checkpoints'])}")
    if facts["threads_wait"] != "passive":
        say(
            "Threads of torch spin while they wait and take the cores from other programs; for trainings of your own "
            "set OMP_WAIT_POLICY=passive before Python starts (the verbs of this command do)."
        )
    return 0


def collect() -> dict[str, Any]:
    """Versions, devices, threads, cache."""
    import torch

    from ecg_transformers.data.cache import cache_root
    from ecg_transformers.hub.official.cache import converted_root
    from ecg_transformers.hub.official.fetch import official_root

    facts: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    facts["devices"] = ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts["threads"] = torch.get_num_threads()
    facts["threads_wait"] = os.environ.get("OMP_WAIT_POLICY", "active")
    facts["offline"] = os.environ.get("HF_HUB_OFFLINE", "0")
    cache = cache_root()
    facts["cache"], facts["cache_megabytes"] = str(cache), round(folder_size(cache) / 1e6, 1)
    facts["checkpoints"] = str(converted_root())
    facts["checkpoints_megabytes"] = round(folder_size(converted_root()) / 1e6, 1)
    facts["checkpoint_files"] = str(official_root())  # where files that users bring are looked for
    return facts


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # whoever works in it takes files away
                status = os.lstat(os.path.join(place, name))
                size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return size
