// A real coordinator and fake workers (real agents that train nothing) for the page's tests.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as pause } from "node:timers/promises";

const here = dirname(fileURLToPath(import.meta.url));
const programs = process.env.LOUPE_PROGRAMS ?? join(here, "../../build/release/bin");

export async function until(what, condition, seconds = 30) {
  const end = Date.now() + 1000 * seconds;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${seconds} s for: ${what}`);
    await pause(50);
  }
}

export class Service {
  data = mkdtempSync(join(tmpdir(), "loupe-page-"));
  workers = [];

  async start() {
    rmSync(join(this.data, "http_address"), { force: true });
    const http = this.port ? `127.0.0.1:${this.port}` : "127.0.0.1:0";
    this.coordinator = spawn(join(programs, "loupe-coordinator"), ["--data", this.data, "--listen", this.grpc ?? "127.0.0.1:0", "--http-listen", http, "--calls-per-second", "0", "--log-level", "warn"], { stdio: ["ignore", "inherit", "inherit"] });
    await until("the coordinator's address", () => existsSync(join(this.data, "http_address")) && existsSync(join(this.data, "address")));
    this.url = readFileSync(join(this.data, "http_address"), "utf8").trim();
    this.grpc = readFileSync(join(this.data, "address"), "utf8").trim();
    this.port = new URL(this.url).port;
    this.token = readFileSync(join(this.data, "token"), "utf8").trim();
  }

  async stop() {
    if (!this.coordinator) return;
    const ended = new Promise((resolve) => this.coordinator.once("exit", resolve));
    this.coordinator.kill("SIGTERM");
    await ended;
    this.coordinator = undefined;
  }

  startWorker(name, ...options) {
    const worker = spawn(join(programs, "loupe-fake-worker"), ["--address", this.grpc, "--token-file", join(this.data, "token"), "--name", name, "--data", join(this.data, name), ...options], { stdio: ["ignore", "inherit", "inherit"] });
    this.workers.push(worker);
    return worker;
  }

  async end() {
    for (const worker of this.workers) worker.kill("SIGKILL");
    await this.stop();
    rmSync(this.data, { recursive: true, force: true });
  }

  async call(method, request) {
    const response = await fetch(`${this.url}/loupe.v1.${method}`, { method: "POST", headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.token}` }, body: JSON.stringify(request) });
    const body = await response.json();
    if (!response.ok) throw new Error(`${method}: ${body.code}: ${body.message}`);
    return body;
  }

  create(sweepId, { factors, replicates = 2, displayName = "", settings = {} }) {
    return this.call("SweepService/CreateSweep", {
      sweepId,
      spec: {
        displayName, replicates, seed: "7", retry: { backoff: "0.001s" },
        settings: Object.fromEntries(Object.entries({ base: "/base", scorer: "/scorer", "task.images": "/images", "task.instance_prompt": "a photo of sks", "task.class_prompt": "a photo of cat face", "method.width": "8", "budget.steps": "5", ...settings }).filter(([key]) => !(key in factors))),
        factors: Object.entries(factors).map(([key, levels]) => ({ key, levels: levels.map(String) })),
      },
    });
  }

  sweep(id) { return this.call("SweepService/GetSweep", { name: `sweeps/${id}` }); }
  untilDone(id) { return until(`${id} to end`, async () => (await this.sweep(id)).state === "COMPLETED", 60); }

  // Gives every trial of a sweep a result, straight in the database of a stopped coordinator: 100,000 in seconds.
  fill(id) {
    const made = spawnSync("python3", [join(here, "fill_sweep.py"), join(this.data, "coordinator.db"), id], { stdio: ["ignore", "inherit", "inherit"] });
    if (made.status !== 0) throw new Error("the sweep could not be filled");
  }
}
