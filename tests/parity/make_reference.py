"""Writes what diffusers, transformers, Pillow and pytorch-fid compute, for tests/parity's C++ tests to compare with.

    make_reference.py REPOSITORY OUT

OUT gets folders of small models with random weights and safetensors files with inputs and outputs, all float32 on one
thread, all from fixed seeds. A second run with the same scripts, base and library versions does nothing.
"""

import hashlib
import os
import pathlib
import sys

# Nothing here may reach for the network; must be set before the imports.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DIFFUSERS_VERBOSITY"] = "error"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def stamp_of(here, repository):
    import importlib.metadata as metadata

    digest = hashlib.sha256((repository / "tests/requirements-fid.txt").read_bytes())
    shipped = [path for folder in ("bases/emoji-sd", "scorers/emoji-clip")
               for path in (repository / "configs" / folder).rglob("*") if path.is_file()]
    for path in [*sorted(here.glob("*.py")), *sorted(shipped)]:
        digest.update(path.read_bytes())
    for package in ("torch", "diffusers", "peft", "transformers", "tokenizers", "safetensors", "numpy", "pillow"):
        digest.update(f"{package} {metadata.version(package)}\n".encode())
    return digest.hexdigest()


def main():
    repository, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    stamp, stamp_file = stamp_of(pathlib.Path(__file__).parent, repository), out / "stamp"
    if stamp_file.exists() and stamp_file.read_text() == stamp:
        print(f"{out} is up to date")
        return
    out.mkdir(parents=True, exist_ok=True)
    stamp_file.unlink(missing_ok=True)

    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    import adapters
    import checkpoints
    import dit
    import efficientnet
    import inception
    import learned_variance
    import methods
    import networks
    import original_file
    import picture_files
    import pictures
    import pipeline
    import safetensors_files
    import samplers
    import schedules
    import tokenizer_folders
    import tokens
    import vit
    import xl

    networks.write(repository, out)
    adapters.write(repository, out)
    methods.write(repository, out)
    safetensors_files.write(repository, out)
    samplers.write(repository, out)
    schedules.write(repository, out)
    learned_variance.write(repository, out)
    tokens.write(repository, out)
    tokenizer_folders.write(repository, out)
    pictures.write(repository, out)
    picture_files.write(repository, out)
    pipeline.write(repository, out)
    checkpoints.write(repository, out)
    vit.write(repository, out)
    efficientnet.write(repository, out)
    dit.write(repository, out)
    original_file.write(repository, out)
    xl.write(repository, out)
    inception.write(repository, out)  # last: it makes torchvision importable, which transformers would take notice of
    stamp_file.write_text(stamp)


if __name__ == "__main__":
    main()
