"""Optuna and Loupe on the same machine in one run: how many trials per second pass through ask and tell.

    pip install -r bench/coordinator/requirements.txt
    python bench/coordinator/beside_optuna.py build/bench/bin/coordinator_load_bench --data FOLDER
        [--rdb postgresql+psycopg://user@/optuna] [--workers 16] [--trials 2000] [--repeats 5]

Every trial is empty: what is measured is the bookkeeping between two trials of a worker. For Optuna that is tell() of one trial
and ask() of the next with its two parameters suggested, in a process per worker; for Loupe the message that completes one
trial and brings the next. The ways in turn, all of them in each repeat:

  loupe                    the coordinator over gRPC, a simulated worker per connection; fsync per commit, commits shared
  optuna journal           JournalStorage(JournalFileBackend), which takes a lock and an fsync per operation
  optuna rdb               RDBStorage, cached, on --rdb (without it on SQLite, which Optuna advises against for parallel work)
  optuna proxy             GrpcStorageProxy to run_grpc_proxy_server over that database. (The proxy does not support journals.)

Optuna samples at random: its cheapest sampler. --grid takes its GridSampler instead, on a grid of as many points as trials,
which is what Loupe's sweep is, and says how many points were run twice or left out.
"""
import argparse
import collections
import json
import multiprocessing
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import optuna

LEVELS = [str(i) for i in range(1, 101)]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def open_storage(way, place):
    if way == "optuna journal":
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(place))
    if way == "optuna rdb":
        options = {"connect_args": {"timeout": 600}} if place.startswith("sqlite") else {}
        # get_storage adds the cache that Optuna's documentation asks for.
        return optuna.storages.get_storage(optuna.storages.RDBStorage(place, engine_kwargs=options))
    host, port = place.split(":")
    return optuna.storages.GrpcStorageProxy(host=host, port=int(port))


def serve(url, port):
    quieten()
    optuna.storages.run_grpc_proxy_server(open_storage("optuna rdb", url), host="127.0.0.1", port=port)


def quieten():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")


def suggest(trial):
    return trial.suggest_categorical("a", LEVELS), trial.suggest_categorical("b", LEVELS)


def make_sampler(grid, trials, number):
    if not grid:
        return optuna.samplers.RandomSampler(seed=number)
    # One seed for all, so that they agree on the order of the grid.
    return optuna.samplers.GridSampler({"a": LEVELS[:-(-trials // 100)], "b": LEVELS}, seed=7)


def work(way, place, grid, trials, number, tickets, barrier, answers):
    quieten()
    study = optuna.load_study(study_name="bench", storage=open_storage(way, place), sampler=make_sampler(grid, trials, number))
    waits = []
    barrier.wait()
    cpu = own_cpu_seconds()
    told = None
    while True:
        with tickets.get_lock():
            if tickets.value == 0:
                break
            tickets.value -= 1
        trial = study.ask()
        suggest(trial)
        if told is not None:
            waits.append(time.perf_counter() - told)
        told = time.perf_counter()
        study.tell(trial, 0.5)
    answers.put((waits, own_cpu_seconds() - cpu, time.time()))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_optuna(way, rdb, folder, options):
    context = multiprocessing.get_context("spawn")
    url = rdb or f"sqlite:///{folder}/study.db"
    place = {"optuna journal": f"{folder}/journal.log", "optuna rdb": url}.get(way)
    server = None
    if way == "optuna proxy":
        port = free_port()
        place = f"127.0.0.1:{port}"
        server = context.Process(target=serve, args=(url, port))
        server.start()
        open_storage(way, place).wait_server_ready(timeout=60)
    study = optuna.create_study(study_name="bench", storage=open_storage(way, place))
    tickets = context.Value("q", options.trials)
    barrier = context.Barrier(options.workers + 1)
    answers = context.Queue()
    workers = [context.Process(target=work, args=(way, place, options.grid, options.trials, i, tickets, barrier, answers))
               for i in range(options.workers)]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.time()
    server_cpu = cpu_seconds(server.pid) if server else 0
    done = [answers.get() for _ in workers]
    server_cpu = cpu_seconds(server.pid) - server_cpu if server else 0
    for worker in workers:
        worker.join()
    waits = sorted(wait for answer in done for wait in answer[0])
    row = {"rate": options.trials / (max(answer[2] for answer in done) - begin),
           "median_ms": 1000 * statistics.median(waits), "p99_ms": 1000 * waits[int(0.99 * len(waits))],
           "service_cpu_ms": 1000 * server_cpu / options.trials,
           "client_cpu_ms": 1000 * sum(answer[1] for answer in done) / options.trials}
    trials = study.get_trials(deepcopy=False)
    complete = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
    assert complete == options.trials, f"{way}: {complete} of {options.trials} trials are complete"
    if options.grid:
        points = collections.Counter((trial.params["a"], trial.params["b"]) for trial in trials)
        row["repeated"] = sum(count - 1 for count in points.values())
    optuna.delete_study(study_name="bench", storage=open_storage(way, place))
    if server:
        server.terminate()
        server.join()
    return row


def run_loupe(program, folder, options):
    command = [program, "--data", f"{folder}/loupe", "--workers", str(options.workers), "--trials", str(options.trials), "--json"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"rate": ours["trials"] / ours["seconds"], "median_ms": ours["median_ms"], "p99_ms": ours["p99_ms"],
            "service_cpu_ms": 1000 * ours["cpu_seconds"] / ours["trials"],
            "client_cpu_ms": 1000 * ours["own_cpu_seconds"] / ours["trials"], "repeated": 0}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rdb")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--grid", action="store_true")
    options = parser.parse_args()
    quieten()
    ways = ["loupe", "optuna journal", "optuna rdb", "optuna proxy"]
    rows = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way in ways:
            with tempfile.TemporaryDirectory(dir=options.data) as folder:
                row = run_loupe(options.program, folder, options) if way == "loupe" else run_optuna(way, options.rdb, folder, options)
            rows[way].append(row)
            print(f"{way}: {row}", file=sys.stderr, flush=True)
    print(f"Optuna {optuna.__version__}; {options.workers} workers, {options.trials} trials, medians of {options.repeats} runs "
          f"(lowest to highest); load average {os.getloadavg()[0]:.1f}")
    print(f"{'':16} {'trials/s':>22} {'loupe is':>9} {'wait median':>12} {'p99':>9} {'CPU service':>12} {'workers':>9}")
    median = {way: {key: statistics.median(row[key] for row in rows[way]) for key in rows[way][0]} for way in ways}
    for way in ways:
        rates = [row["rate"] for row in rows[way]]
        m = median[way]
        span = f"{m['rate']:.0f} ({min(rates):.0f} to {max(rates):.0f})"
        print(f"{way:16} {span:>22} {median['loupe']['rate'] / m['rate']:8.1f}x {m['median_ms']:9.1f} ms {m['p99_ms']:6.0f} ms "
              f"{m['service_cpu_ms']:9.2f} ms {m['client_cpu_ms']:6.2f} ms"
              + (f"   {m['repeated']:.0f} points run twice" if options.grid else ""))


if __name__ == "__main__":
    main()
