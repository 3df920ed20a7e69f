"""Patches (DiT) against the hourglass (DiffuSSM) by FID and KID at equal training operations: docs/bases.md has the table.

    patching_against_hourglass.py --worker build/release/bin/loupe-worker --out FOLDER [--share 0.2] [--seeds 1 2] [--only dit-p2 …]

To be run from the project's root. Each network is that of configs/bases/emoji-dit.yaml or emoji-diffussm.yaml but for patch or
hourglass, width, and steps: as many as make SHARE of the operations of emoji-dit's training, by the multiply-adds of one forward
pass, which loupe plan counts (common/network_flops.h), batch and everything else being the same. A training that was interrupted goes
on; what is done is not done again. Prints a Markdown table of what is there.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess

# Multiply-adds of one sample, forward, in millions, at 16×16 latents: DiTWork and DiffuSSMWork of common/network_flops.h at width 112,
# 6 layers, 32 states.
NETWORKS = {
    "dit-p2": ("dit", {"patch": 2}, 64.2),
    "diffussm-m2": ("diffussm", {"hourglass": 2}, 156.8),
    "dit-p1": ("dit", {"patch": 1}, 320.2),
    "diffussm-m4": ("diffussm", {"hourglass": 4}, 94.1),
    "diffussm-m1": ("diffussm", {"hourglass": 1}, 282.0),
}
STEPS = 12000  # of configs/bases/emoji-dit.yaml
SCORER = "configs/scorers/emoji-clip"
ITEMS = "configs/bases/emoji-sd/items.json"


def recipe(network, seed, share):
    """The built-in base's own recipe with other numbers: its comments and order stay."""
    part, changed, operations = NETWORKS[network]
    text = pathlib.Path(f"configs/bases/emoji-{part}.yaml").read_text()
    steps = round(share * STEPS * NETWORKS["dit-p2"][2] / operations)
    for key, value in {**changed, "seed": seed, "steps": steps}.items():
        text, count = re.subn(rf"^(\s*{key}:\s*)\S+.*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
        if count != 1:
            raise SystemExit(f"configs/bases/emoji-{part}.yaml: '{key}' stands there {count} times, and once was expected")
    return text, steps


def train(arguments, network, seed):
    folder = arguments.out / f"{network}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    text, steps = recipe(network, seed, arguments.share)
    (folder / "recipe.yaml").write_text(text)
    with open(folder / "log", "ab") as log:
        subprocess.run([arguments.worker, "pretrain", folder / "recipe.yaml", "--out", folder / "trained"], check=True, stdout=log, stderr=log)
        if not (folder / "evaluation/evaluation.json").exists():
            subprocess.run([arguments.worker, "evaluate", "--base", folder / "trained/base", "--scorer", SCORER, "--items", ITEMS,
                            "--count", str(arguments.count), "--threads", "1", "--out", folder / "evaluation"],
                           check=True, stdout=log, stderr=log)
    return steps


def scores(folder):
    """Of the base's own pictures beside those that it was trained on."""
    found = json.loads((folder / "evaluation/evaluation.json").read_text())
    return {name: found["sections"][0]["sets"]["base"][name] for name in ("clip_fid", "clip_kid", "clip_cmmd")}


def shown(score):
    return f"{score:,.0f}" if score >= 100 else f"{score:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--table", action="store_true", help="train nothing: print what is there")
    arguments = parser.parse_args()
    if not arguments.table:
        for seed in arguments.seeds:
            for network in arguments.only:
                print(f"{network}, seed {seed}: {train(arguments, network, seed)} steps", flush=True)
    print("| network | M multiply-adds | steps | seeds | FID | KID | CMMD |\n|---|---|---|---|---|---|---|")
    for network, (_, _, operations) in NETWORKS.items():
        made = [scores(arguments.out / f"{network}-{seed}") for seed in arguments.seeds
                if (arguments.out / f"{network}-{seed}/evaluation/evaluation.json").exists()]
        if made:
            columns = [f"{shown(statistics.mean(one[name] for one in made))} ({', '.join(shown(one[name]) for one in made)})"
                       for name in made[0]]
            print("|", " | ".join([network, f"{operations:.1f}", str(recipe(network, 1, arguments.share)[1]), str(len(made)), *columns]), "|")


if __name__ == "__main__":
    main()
