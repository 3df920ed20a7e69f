"""The container files, read as a builder reads them: known instructions, short names of bases, a user that is not root, nothing
fetched but by the packages' own programs. (They are built where a builder is at hand.)"""

import json
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "deploy/container"
KNOWN = {"FROM", "ARG", "COPY", "RUN", "USER", "WORKDIR", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD", "ENV"}


def instructions(text):
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [line.split(None, 1) for line in joined.splitlines() if line.strip()]


def check(path):
    found = instructions(path.read_text())
    assert found[0][0] == "FROM", f"{path}: begins with {found[0][0]}"
    declared, stages, user = set(), set(), "root"
    for name, rest in found:
        assert name in KNOWN, f"{path}: {name} is no instruction that is used here"
        if name == "FROM":
            declared, user = set(), "root"
            match = re.fullmatch(r"([a-z]+):([a-z0-9.-]+)(?: AS ([a-z]+))?", rest)
            assert match, f"{path}: FROM {rest}: expected a short name with a tag"
            assert match[2] != "latest", f"{path}: {rest} changes by itself"
            stages.add(match[3])
        elif name == "ARG":
            declared.add(rest.split("=")[0])
        elif name == "USER":
            user = rest
        elif name in ("ENTRYPOINT", "CMD"):
            words = json.loads(rest)
            assert all(isinstance(word, str) for word in words), f"{path}: {name} {rest}"
        elif name == "COPY" and rest.startswith("--from="):
            assert rest.split()[0][len("--from="):] in stages, f"{path}: COPY {rest}"
        elif name == "RUN":
            assert "curl" not in rest and "wget" not in rest and "://" not in rest, f"{path}: RUN {rest}"
            if "apt-get install" in rest:
                assert "apt-get update" in rest and "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists" in rest
        for variable in re.findall(r"\$\{?([A-Z_]+)", rest if name in ("COPY", "RUN") else ""):
            assert variable in declared, f"{path}: {name} uses {variable}, which no ARG of its stage declares"
    assert user not in ("root", "0"), f"{path}: runs as root"
    assert found[-1][0] in ("ENTRYPOINT", "CMD")


def main():
    files = sorted(FOLDER.glob("Containerfile.*"))
    assert [path.suffix for path in files] == [".coordinator", ".worker"], files
    for path in files:
        check(path)
    print(f"{len(files)} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
