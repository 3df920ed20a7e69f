"""Small files by torch.save, in both of its forms, good and bad, for the reader that runs nothing."""

import os
import shutil
import zipfile

import torch
from safetensors.torch import save_file


class Evil:
    """What a hostile file can do to whoever unpickles it: here, leave a file behind."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def tensors():
    generator = torch.Generator().manual_seed(800)
    shared = torch.randn(6, 4, generator=generator)
    return {
        "float": torch.randn(3, 5, generator=generator),
        "double": torch.randn(2, 2, 2, generator=generator, dtype=torch.float64),
        "half": torch.randn(7, generator=generator).half(),
        "bfloat16": torch.randn(7, generator=generator).bfloat16(),
        "long": torch.arange(-3, 4),
        "int": torch.arange(5, dtype=torch.int32),
        "byte": torch.arange(250, 256, dtype=torch.uint8),
        "short": torch.arange(-2, 2, dtype=torch.int16),
        "char": torch.arange(-2, 2, dtype=torch.int8),
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "scalar": torch.tensor(17),
        "empty": torch.zeros(0),
        "upper": shared[:3],  # two views of one storage, the second with an offset
        "lower": shared[3:],
    }


def permuted():
    """Not contiguous, but without gaps: a weight as other frameworks order it, dimensions of one, a view with an offset."""
    generator = torch.Generator().manual_seed(12)
    kernel = torch.randn(3, 2, 4, 5, generator=generator)  # height, width, in, out
    return {
        "transposed": torch.randn(3, 5, generator=generator).t(),
        "kernel": kernel.permute(3, 2, 0, 1),
        "half": torch.randn(4, 1, 3, generator=generator).half().permute(2, 1, 0),
        "offset": torch.randn(4, 6, generator=generator)[2:].t(),
    }


def write(repository, out):
    folder = out / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for form, new in (("sequence", False), ("archive", True)):
        def save(value, name, **options):
            torch.save(value, folder / f"{name}.{form}.pth", _use_new_zipfile_serialization=new, **options)

        good = tensors()
        save(good, "good")
        save(good, "protocol4", pickle_protocol=4)
        module = torch.nn.BatchNorm1d(4)
        module.weight.data.copy_(good["upper"][0])
        save(module.state_dict(), "module")  # an OrderedDict with attributes
        save(dict(weight=module.weight), "parameter")
        save(dict(good, weight=Evil(folder / "marker")), "evil")
        save(permuted(), "transposed")
        save(dict(sliced=good["float"][:, ::2]), "sliced")
        save(dict(expanded=good["half"].expand(2, 7)), "expanded")
        large = torch.zeros(128, 64)
        save({str(i): large.t() for i in range(4)}, "shared")  # each would take as much memory as the file has
        save(dict(complex=torch.zeros(2, dtype=torch.complex128)), "complex")
        save(module, "whole-module")
        save(dict(model=good, step=3), "nested")
        save(dict(state_dict=good, step=3, callbacks={torch.nn.Linear: 1}), "training")  # a class's name, never called
    with zipfile.ZipFile(folder / "good.archive.pth") as source, \
            zipfile.ZipFile(folder / "compressed.archive.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    save_file({name: value.clone() for name, value in tensors().items()}, folder / "good.safetensors")
    save_file({name: value.contiguous() for name, value in permuted().items()}, folder / "transposed.safetensors")
    save_file(dict(weight=tensors()["upper"][0].clone()), folder / "weight.safetensors")
