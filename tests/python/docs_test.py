"""Every command and every piece of Python in the docs.

Blocks of `sh` and `python` under docs/guide and on the start page are run, page by page, in a folder of their own with real programs (and workers
whose trials are acted: programs.py). `<!-- not run: reason -->` above a block says that it is not; then each of its commands must exist, with
the options that it uses (`--help`), and its settings must be known. The same holds for all commands on the other pages, and within sentences.

    <!-- file: NAME -->       the next block is written to NAME
    <!-- before: COMMAND -->  run first, and not shown to readers
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

from programs import BIN, ROOT, lay_out

DOCS = ROOT / "docs"
GUIDE = [DOCS / "index.md", *sorted((DOCS / "guide").glob("*.md"))]
REFERENCE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(set(DOCS.glob("*.md")) - {DOCS / "index.md"})]
PROGRAMS = ("loupe", "loupe-worker", "loupe-coordinator")
# Of other makers, in blocks that are not run: their own help is not asked.
FOREIGN = {"pip", "hf", "sqlite3", "export"}
_helps = {}


class Block:
    def __init__(self, page, line, language, text, marks):
        self.page, self.line, self.language, self.text = page, line, language, text
        self.file = marks.get("file")
        self.not_run = marks.get("not run")
        self.where = f"{page.relative_to(ROOT)}:{line}"


def blocks_of(page):
    """Of a page: its fenced blocks in order, and its hidden commands as blocks."""
    found, marks, lines = [], {}, page.read_text().splitlines()
    at = 0
    while at < len(lines):
        mark = re.fullmatch(r"<!-- (file|not run|before): (.+) -->", lines[at])
        fence = re.fullmatch(r"( *)```(\w*)", lines[at])
        if mark and mark[1] == "before":
            found.append(Block(page, at + 1, "sh", mark[2], {}))
        elif mark:
            marks[mark[1]] = mark[2]
        elif fence:
            end = next(number for number in range(at + 1, len(lines)) if lines[number].strip() == "```")
            text = "\n".join(line[len(fence[1]):] for line in lines[at + 1:end])
            found.append(Block(page, at + 2, fence[2], text, marks))
            at, marks = end, {}
        elif lines[at].strip() and marks:
            raise AssertionError(f"{page}:{at + 1}: the mark above it has no block")
        at += 1
    return found


def commands_in(text):
    """Lines of a shell, joined where they are continued, split at ; && and |, without comments."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        lexer = shlex.shlex(line.strip(), posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        command = []
        for word in lexer:
            if word and set(word) <= set(";&|"):
                yield command
                command = []
            else:
                command.append(word)
        yield command


def indented_commands(page):
    """Commands of ours on a page of reference: in indented or fenced blocks."""
    lines = page.read_text().splitlines()
    joined, number = [], 0
    while number < len(lines):
        line, first = lines[number], number
        while line.endswith("\\") and number + 1 < len(lines):
            number += 1
            line = line[:-1] + lines[number].strip()
        joined.append((first + 1, line))
        number += 1
    fenced = False
    for number, line in joined:
        if line.strip().startswith("```"):
            fenced = not fenced
        elif line.startswith("    ") or fenced:
            if re.match(r"\s*(build/release/bin/)?(loupe|loupe-worker|loupe-coordinator)\s+[a-z-]", line):
                yield number, line.strip()


def without_choices(line):
    """Of a synopsis: "[--a N | off] --as x|y" names what may be left out, and alternatives, of which the first stands for all."""
    line = re.sub(r"(?<=[^\s|])\|[^\s|]+", "", line.replace("…", ""))
    while "[" in line:
        line = re.sub(r"\[([^\[\]|]*)(\|[^\[\]]*)?\]", r"\1", line) if re.search(r"\[[^\[\]]*\]", line) else line.replace("[", " ")
    return line


def help_of(program, *words):
    if (program, words) not in _helps:
        done = subprocess.run([BIN / program, *words, "--help"], capture_output=True, text=True, timeout=30)
        _helps[program, words] = done.stdout if done.returncode == 0 else None
    return _helps[program, words]


def problem_of(command):
    """Why a command of ours does not exist as written; empty where it does."""
    while command and re.fullmatch(r"[A-Z_]+=\S*", command[0]):
        command = command[1:]
    if not command:
        return ""
    program = command[0].removeprefix("build/release/bin/")
    if program not in PROGRAMS:
        if program.startswith("./"):
            return "" if (ROOT / program).exists() else f"there is no '{program}'"
        return "" if program in FOREIGN or shutil.which(program) else f"there is no program '{program}'"
    whole = help_of(program)
    known = set(re.findall(r"^  ([a-z][a-z-]*)  ", whole.partition("Subcommands:")[2], re.MULTILINE))
    words, rest = [], []
    for word in command[1:]:
        if word in known:
            words.append(word)
            inner = help_of(program, *words) or ""
            known = set(re.findall(r"^  ([a-z][a-z-]*)  ", inner.partition("Subcommands:")[2], re.MULTILINE))
        else:
            rest.append(word)
    if not words and program != "loupe-coordinator" and command[1:2] not in (["--version"], ["--help"]):
        return f"'{program}' has no command '{next((word for word in rest if not word.startswith('-')), '')}'"
    text = (help_of(program, *words) or "") + (whole if program == "loupe-coordinator" or not words else "")
    for word in rest:
        option = re.fullmatch(r"(--?[a-z][a-z-]*)(=.*)?", word)
        if option and not re.search(rf"(^|[\s,]){re.escape(option[1])}\b(?!-)", text):
            return f"'{' '.join([program, *words])}' has no option '{option[1]}'"
    if program == "loupe-worker" and words == ["trial"]:
        return wrong_settings(rest)
    return ""


def wrong_settings(words):
    keys = re.findall(r"^\| `([a-z_.0-9]+)` \|", subprocess.run([BIN / "loupe", "keys"], capture_output=True, text=True).stdout, re.MULTILINE)
    known = {*keys, *(key.rpartition(".")[2] for key in keys)}
    given = words[words.index("--settings") + 1:] if "--settings" in words else []
    for word in given:
        if word.startswith("--"):
            break
        if word.partition("=")[0] not in known:
            return f"there is no setting '{word.partition('=')[0]}'"
    return ""


class Sandbox:
    """A reader's folder: the repository's configs, programs on the PATH, a free port for `loupe up`."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        real = lay_out(self.folder / "real", seconds=0.01)
        shims = self.folder / "bin"
        shims.mkdir()
        (shims / "loupe").write_text(f'#!/bin/bash\nif [ "$1" = up ]; then exec {real}/loupe up --listen 127.0.0.1:0 "${{@:2}}"; fi\n'
                                     f'exec {real}/loupe "$@"\n')
        (shims / "loupe").chmod(0o755)
        for name in ("loupe-worker", "loupe-coordinator"):
            (shims / name).symlink_to(real / name)
        self.home = self.folder / "home"
        self.home.mkdir()
        (self.home / "configs").symlink_to(ROOT / "configs")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("LOUPE_")} | {
            "PATH": f"{shims}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "HOME": str(self.home)}

    def run(self, language, text):
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        return subprocess.run(command, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=120)

    def close(self):
        if (self.home / ".loupe").exists():
            self.run("sh", "loupe down || true")


class GuideTest(unittest.TestCase):
    maxDiff = None

    def check(self, page):
        script = []  # a page's Python is one session
        with tempfile.TemporaryDirectory() as folder:
            sandbox = Sandbox(folder)
            self.addCleanup(sandbox.close)
            try:
                for block in blocks_of(page):
                    if block.file:
                        (sandbox.home / block.file).write_text(block.text + "\n")
                    elif block.not_run and block.language == "sh":
                        for command in commands_in(block.text):
                            self.assertEqual(problem_of(command), "", f"{block.where}: {command}")
                    elif block.language == "sh":
                        for command in commands_in(block.text):
                            self.assertEqual(problem_of(command), "", f"{block.where}: {command}")
                        done = sandbox.run("sh", block.text)
                        self.assertEqual(done.returncode, 0, f"{block.where}:\n{block.text}\n{done.stdout}{done.stderr}")
                    elif block.language == "python" and not block.not_run:
                        script.append(f"# {block.where}\n{block.text}\n")
                if script:
                    done = sandbox.run("python", "\n".join(script))
                    self.assertEqual(done.returncode, 0, f"{page}:\n{done.stdout}{done.stderr}")
            finally:
                sandbox.close()


def _add(page):
    name = f"test_{page.stem.replace('-', '_')}_works_as_written"
    setattr(GuideTest, name, lambda self: self.check(page))


for _page in GUIDE:
    _add(_page)


class ReferenceTest(unittest.TestCase):
    maxDiff = None

    def test_commands_exist_with_their_options(self):
        problems, seen = [], 0
        for page in REFERENCE:
            for number, line in indented_commands(page):
                for command in commands_in(without_choices(line.partition("  #")[0])):
                    seen += 1
                    if problem := problem_of(command):
                        problems.append(f"{page.relative_to(ROOT)}:{number}: {problem} in: {line}")
        self.assertEqual(problems, [])
        self.assertGreater(seen, 25)

    def test_commands_within_sentences_exist_too(self):
        problems, seen = [], 0
        for page in [*GUIDE, *REFERENCE]:
            for number, line in enumerate(page.read_text().splitlines(), 1):
                for text in re.findall(r"`((?:loupe|loupe-worker|loupe-coordinator) [^`]*[a-z][^`]*)`", line):
                    synopsis = re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", text.replace("\\|", "|"))
                    for command in commands_in(without_choices(synopsis)):
                        seen += 1
                        of_ours = command and command[0] in PROGRAMS and command[1] != "COMMAND"
                        if of_ours and (problem := problem_of(command)):
                            problems.append(f"{page.relative_to(ROOT)}:{number}: {problem} in: {text}")
        self.assertEqual(problems, [])
        self.assertGreater(seen, 100)

    def test_what_does_not_exist_is_found(self):
        for text, problem in [
                ("loupe plan x.yaml --trials 3", ""), ("loupe-worker trial --out a --settings base=b input=SA_in", ""),
                ("loupe-coordinator --data D token add --name a --role viewer", ""), ("FOO=1 loupe --version", ""),
                ("loupe plann x.yaml", "no command 'plann'"), ("loupe plan x.yaml --trial 3", "no option '--trial'"),
                ("loupe-worker trial --settings bass=b", "no setting 'bass'"), ("loupe-coordinator --data D token ad --nme a", "no option"),
                ("./no-such-script", "no './no-such-script'"), ("no-such-program --x", "no program")]:
            [command] = commands_in(text)
            found = problem_of(command)
            self.assertTrue(problem in found if problem else found == "", (text, found))

    def test_marks_and_continued_lines_are_read(self):
        self.assertEqual(list(commands_in('a "b c" \\\n  -d; e && f | g # h')), [["a", "b c", "-d"], ["e"], ["f"], ["g"]])
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / "page.md"
            page.write_text("<!-- not run: because -->\nno block\n")
            with self.assertRaisesRegex(AssertionError, "no block"):
                blocks_of(page)

    def test_every_error_reason_is_explained(self):
        reasons = re.findall(r'kReason\w+ = "([A-Z_]+)"', (ROOT / "common/error_details.h").read_text())
        self.assertGreater(len(reasons), 5)
        page = (DOCS / "guide/troubleshooting.md").read_text()
        for reason in reasons:
            self.assertIn(f"`{reason}`", page)

    def test_views_are_described_column_by_column(self):
        page = (DOCS / "guide/database.md").read_text()
        described = dict(re.findall(r"^\| `(view_\w+)` \| [^|]+ \| (.+) \|$", page, re.MULTILINE))
        source = (ROOT / "coordinator/store/analyst_views.cc").read_text()
        self.assertEqual(sorted(described), sorted(set(re.findall(r"CREATE VIEW (view_\w+)", source))))


class SiteTest(unittest.TestCase):
    def test_site_is_whole_and_loads_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder], cwd=ROOT, capture_output=True,
                                  text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            pages = list(pathlib.Path(folder).rglob("*.html"))
            self.assertGreater(len(pages), 20)
            for page in pages:
                loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?((?:https?:)?//[^\"'> ]+)", page.read_text())
                self.assertEqual(loaded, [], page)


if __name__ == "__main__":
    unittest.main()
