"""Generates loupe.v1 from the contract when the package is built.

The contract is proto/ of the repository, and a copy of it in a source distribution. Nothing that is generated is committed: it could
only disagree with the contract, or with the protobuf that it is installed beside.
"""

import pathlib
import re
import shutil
import tempfile
from importlib import resources

from grpc_tools import protoc
from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent


def contract() -> pathlib.Path:
    for folder in (HERE / "proto", *(parent / "proto" for parent in HERE.parents[:2])):
        if (folder / "loupe" / "v1").is_dir():
            return folder
    raise SystemExit("proto/loupe/v1 is not beside this package: build it in the repository, or from a source distribution of it")


def generate(out: pathlib.Path) -> str:
    """Writes the modules under `out`; the version of protobuf that they need at least."""
    proto = contract()
    names = sorted(str(path.relative_to(proto)) for path in (proto / "loupe" / "v1").glob("*.proto"))
    with resources.as_file(resources.files("grpc_tools") / "_proto") as well_known:
        arguments = ["protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", *names]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc refused the contract; its messages are above")
    text = (out / "loupe" / "v1" / "sweep_pb2.py").read_text()
    version = re.search(r"^# Protobuf Python Version: ([0-9.]+)$", text, re.MULTILINE)
    return version.group(1) if version else "5.26"


class BuildWithContract(build_py):
    def run(self) -> None:
        super().run()
        generate(HERE / "src" if self.editable_mode else pathlib.Path(self.build_lib))


class SdistWithContract(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        shutil.copytree(contract(), pathlib.Path(base_dir) / "proto", dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("CMakeLists.txt"))


with tempfile.TemporaryDirectory() as scratch:
    lowest_protobuf = generate(pathlib.Path(scratch))

setup(
    cmdclass={"build_py": BuildWithContract, "sdist": SdistWithContract},
    install_requires=["grpcio>=1.60", f"protobuf>={lowest_protobuf}", "googleapis-common-protos>=1.60"],
)
