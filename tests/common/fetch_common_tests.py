"""Fetch transformers' own test mixins of the installed version into the git-ignored folder `hf_tests/`.

The mixins live in the source distribution, not in the wheel. They are unpacked, never copied into the repository; three
small modules of ours stand in for the sub-packages that the distribution leaves out. Run by `make test`.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[2] / "hf_tests"
FILES = (
    "test_modeling_common.py",
    "test_configuration_common.py",
    "test_feature_extraction_common.py",
    "test_sequence_feature_extraction_common.py",
    "test_memory_cleanup_mixin.py",
    "test_training_mixin.py",
)
STUBS = {
    "__init__.py": "",
    "exporters/__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/__init__.py": "",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/__init__.py": "",
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = {\n"
        '    "output_hidden_states": True,\n'
        '    "return_dict": False,\n'
        '    "dtype": "float16",\n'
        '    "chunk_size_feed_forward": 5,\n'
        '    "is_encoder_decoder": True,\n'
        '    "architectures": ["AnyModel"],\n'
        '    "id2label": {0: "label"},\n'
        '    "label2id": {"label": 0},\n'
        '    "problem_type": "regression",\n'
        "}\n"
    ),
}


def installed_version() -> str:
    from importlib.metadata import version

    return version("transformers")


def download(version: str, folder: Path) -> Path:
    """The source distribution of that version, through pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary", "transformers", f"transformers=={version}", "--dest", str(folder)]
    subprocess.run(command, check=True)
    return next(folder.glob("transformers-*.tar.gz"))


def unpack(archive: Path, target: Path) -> None:
    """The mixin files and our stand-ins, in `target`."""
    for name, text in STUBS.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with tarfile.open(archive) as tar:
        members = {Path(member.name).name: member for member in tar if "/tests/test_" in member.name}
        for name in FILES:
            if name not in members:
                raise SystemExit(f"{archive.name} has no tests/{name}: the layout of the distribution has changed.")
            file = tar.extractfile(members[name])
            if file is None:
                raise SystemExit(f"tests/{name} in {archive.name} is no regular file.")
            (target / name).write_bytes(file.read())


def main() -> None:
    version = installed_version()
    stamp = TARGET / ".fetched"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == version:
        stamp.touch()
        return
    with tempfile.TemporaryDirectory() as folder:
        unpack(download(version, Path(folder)), TARGET)
    stamp.write_text(version, encoding="utf-8")
    print(f"Unpacked the common tests of transformers {version} into {TARGET.name}/.")


if __name__ == "__main__":
    main()
