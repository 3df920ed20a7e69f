"""Loupe and its peers on the same cells of one sweep, in one run: trials per hour, seconds of processor by phase, peak memory.

    pip install -r bench/peers/requirements.txt
    python bench/peers/beside_diffusers.py --bin build/release/bin [--processes 1] [--trials 20] [--ways loupe,packed,hooks,peft,compile]
        [--cells pairs|quickstart] [--steps 50] [--batch 4] [--samples 16] [--sample-steps 20] [--slots 8] [--passes own|shared|auto] [--graphs] [--precision float32|bf16]
        [--device cpu|cuda]

The cells are the 20 legal pairs of an adapter's positions, or the quickstart's (input x output x activation), each once, over and over
up to --trials, which is a whole number of times. The ways, one after another:

  loupe      a coordinator and --processes workers of one thread each, one trial at a time
  packed     the same with --slots trials together
  hooks      diffusers, an adapter by forward hooks; Optuna's grid sampler hands the cells to --processes processes
  peft       the same with a LoRA of peft of rank 4 on the attention
  compile    hooks, the UNet through torch.compile

Like for like: what a process's trials share (class pictures, latents, text) is made once by each way and not counted: for Loupe by a
first sweep of one trial for each worker, for the peers before the clock starts. Threads are one per process.
"""
import argparse
import itertools
import json
import multiprocessing
import os
import pathlib
import queue
import resource
import socket
import subprocess
import tempfile
import time

from positions import OUTPUTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE, SCORER = ROOT / "configs/bases/emoji-sd", ROOT / "configs/scorers/emoji-clip"
PROMPT, CLASS_PROMPT = "a photo of sks", "a photo of cat face"
# By --cells: the levels, of which a cell takes one each.
GRIDS = {"pairs": {"input": list(OUTPUTS), "output": ["SA_in", "CA_in", "CA_c", "FFN_in", "Trans_out", "Res_in", "Res_out"], "activation": ["relu"]},
         "quickstart": {"input": ["SA_in", "CA_in", "CA_out"], "output": ["FFN_in", "Trans_out"], "activation": ["relu", "silu"]}}


def cells(grid):
    every = [dict(zip(grid, levels)) for levels in itertools.product(*grid.values())]
    return [cell for cell in every if cell["output"] in OUTPUTS[cell["input"]]]


def sweep_text(name, flags, grid, replicates):
    factors = "".join(f"  {key}: [{', '.join(levels)}]\n" for key, levels in grid.items())
    return f"""name: {name}
base: {BASE}
scorer: {SCORER}
task: {{kind: dreambooth, images: {flags.images}, instance_prompt: {PROMPT}, class_prompt: {CLASS_PROMPT}, class_images: 32}}
method: {{kind: adapter, width: 32, init: zero}}
factors:
{factors}replicates: {replicates}
budget: {{steps: {flags.steps}, batch: {flags.batch}, samples: {flags.samples}}}
train: {{learning_rate: 0.003, precision: {flags.precision}}}
sample: {{steps: {flags.sample_steps}, guidance: 3}}
seed: 7
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def loupe(flags, slots):
    """Elapsed seconds of the sweep, seconds of processor of the workers, and their peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{free_port()}"
        environment = dict(os.environ, LOUPE_ADDRESS=address, LOUPE_TOKEN_FILE=f"{folder}/coordinator/token", OMP_NUM_THREADS="1")
        quiet = dict(env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def call(*arguments):
            return subprocess.run([flags.bin / "loupe", *arguments], env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout

        coordinator = subprocess.Popen([flags.bin / "loupe-coordinator", "--data", f"{folder}/coordinator", "--listen", address], **quiet)
        workers = []
        try:
            time.sleep(3)
            workers += [subprocess.Popen([flags.bin / "loupe-worker", "run", "--id", f"w{i}", "--data", f"{folder}/worker", "--threads", "1",
                                         "--device", flags.device, "--slots", str(slots), "--passes", flags.passes,
                                         *(["--graphs"] if flags.graphs else [])], **quiet) for i in range(flags.processes)]
            while len(json.loads(call("workers", "--format", "json"))["workers"]) < flags.processes:  # or one would take the first sweep alone
                time.sleep(0.5)
            seconds = {}
            one = {"input": ["SA_in"], "output": ["FFN_in"], "activation": ["relu"]}
            for name, grid, replicates in (("first", one, flags.processes), ("measured", flags.grid, flags.trials // len(cells(flags.grid)))):
                path = pathlib.Path(folder) / f"{name}.yaml"
                path.write_text(sweep_text(name, flags, grid, replicates))
                start, used = time.monotonic(), sum(cpu_seconds(worker.pid) for worker in workers)
                call("submit", str(path))
                call("watch", name)  # asks once; a status each half second took a thirtieth of the workers' processors
                seconds[name] = time.monotonic() - start, sum(cpu_seconds(worker.pid) for worker in workers) - used
                status = json.loads(call("status", name, "--format", "json"))
                assert status["state"] == "COMPLETED", status
            done = status["counts"]["succeeded"]
            peak = max(peak_mb(worker.pid) for worker in workers)
        finally:
            for process in [*workers, coordinator]:
                process.terminate()
            for process in [*workers, coordinator]:
                process.wait()
        return dict(trials=done, elapsed=seconds["measured"][0], processor=seconds["measured"][1], peak_mb=peak)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def work(flags, way, journal, ready, go, results):
    """A peer's process: asks for cells until the grid is exhausted."""
    import optuna
    import torch

    from cell import Peer
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    options = dict(steps=flags.steps, batch=flags.batch, samples=flags.samples, sample_steps=flags.sample_steps, guidance=3.0,
                   precision=flags.precision, device=flags.device, compile=way == "compile")
    peer = Peer(BASE, SCORER, flags.images, PROMPT, CLASS_PROMPT, 32, options)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    grid = {"cell": list(range(flags.trials))}
    study = optuna.create_study(study_name="s", storage=storage, sampler=optuna.samplers.GridSampler(grid, seed=7), load_if_exists=True)
    every, phases = cells(flags.grid), {}

    def objective(trial):
        number = trial.suggest_categorical("cell", grid["cell"])
        kind = "peft" if way == "peft" else "hooks"
        seconds, score = peer.run(kind, dict(every[number % len(every)], width=32, learning_rate=0.003), number)
        for phase, value in seconds.items():
            phases[phase] = phases.get(phase, 0) + value
        return score

    ready.release()
    go.wait()
    start = time.process_time()
    study.optimize(objective, n_trials=-(-flags.trials // flags.processes))
    results.put((time.process_time() - start, phases, len([t for t in study.trials if t.state.is_finished()]),
                 resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def await_from(processes, way, take):
    """What take() comes to, which gives None or raises queue.Empty after a while without; a process that has died ends the run."""
    while True:
        try:
            if (taken := take()) is not None:
                return taken
        except queue.Empty:
            pass
        if any(process.exitcode for process in processes):
            for process in processes:
                process.kill()
            raise SystemExit(f"{way}: a process has ended with {[process.exitcode for process in processes]}")


def peers(flags, way):
    context = multiprocessing.get_context("spawn")
    ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=work, args=(flags, way, f"{folder}/journal", ready, go, results))
                     for _ in range(flags.processes)]
        for process in processes:
            process.start()
        for _ in processes:
            await_from(processes, way, lambda: ready.acquire(timeout=1) or None)
        start = time.monotonic()
        go.set()
        came = [await_from(processes, way, lambda: results.get(timeout=1)) for _ in processes]
        elapsed = time.monotonic() - start
        for process in processes:
            process.join()
    phases = {}
    for _, by_phase, _, _ in came:
        for phase, value in by_phase.items():
            phases[phase] = phases.get(phase, 0) + value
    return dict(trials=max(c[2] for c in came), elapsed=elapsed, processor=sum(c[0] for c in came), phases=phases,
                peak_mb=max(c[3] for c in came))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=pathlib.Path, default=ROOT / "data/emoji/cat-faces")
    parser.add_argument("--ways", default="loupe,packed,hooks,peft")
    parser.add_argument("--cells", default="pairs", choices=list(GRIDS))
    parser.add_argument("--passes", default="auto", choices=["auto", "own", "shared"])
    parser.add_argument("--graphs", action="store_true", help="Loupe's workers repeat steps as CUDA graphs")
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--device", default="cpu")
    for name, value in dict(processes=1, trials=20, steps=50, batch=4, samples=16, sample_steps=20, slots=8).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    flags = parser.parse_args()
    flags.bin, flags.images, flags.grid = flags.bin.resolve(), flags.images.resolve(), GRIDS[flags.cells]
    if flags.trials < 1 or flags.trials % len(cells(flags.grid)) != 0:
        parser.error(f"--trials is {flags.trials}: expected a multiple of the {len(cells(flags.grid))} cells of --cells {flags.cells}")
    os.environ["OMP_NUM_THREADS"] = "1"
    for way in flags.ways.split(","):
        found = loupe(flags, 1 if way == "loupe" else flags.slots) if way in ("loupe", "packed") else peers(flags, way)
        phases = "".join(f", {phase} {value / found['trials']:.2f} s" for phase, value in found.get("phases", {}).items())
        print(f"{way:8} {found['trials']} trials in {found['elapsed']:.1f} s: {3600 * found['trials'] / found['elapsed']:.0f} an hour; "
              f"{found['processor'] / found['trials']:.2f} s of processor each{phases}; peak {found['peak_mb']:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
