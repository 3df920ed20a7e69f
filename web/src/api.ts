// The coordinator, by its JSON beside gRPC (docs/http.md): one function per way of asking.

export class ApiError extends Error {
  constructor(readonly code: string, message: string, readonly details: unknown[] = []) { super(message); }
}

// Told when the coordinator wants to know who asks.
let askToSignIn: () => void = () => {};
export function onSignInNeeded(tell: () => void) { askToSignIn = tell; }

async function ask(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", cache: "no-store", ...init });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiError("unavailable", "The coordinator does not answer.");
  }
  if (response.ok) return response;
  const text = await response.text();
  let body: any = null;
  try { body = JSON.parse(text); } catch { /* shown as it is */ }
  const code = body?.code ?? (response.status === 401 ? "unauthenticated" : response.status >= 502 ? "unavailable" : "unknown");
  if (code === "unauthenticated") askToSignIn();
  throw new ApiError(code, body?.message ?? (text.slice(0, 300) || `The coordinator answered ${response.status}.`), body?.details ?? []);
}

async function fetchJson(url: string, init: RequestInit): Promise<unknown> {
  const text = await (await ask(url, init)).text();
  try { return text ? JSON.parse(text) : {}; } catch { throw new ApiError("unknown", `The coordinator's answer is no JSON: ${text.slice(0, 200)}`); }
}

// A unary method: call("SweepService/GetSweep", {name}).
export function call<T>(method: string, request: object, signal?: AbortSignal): Promise<T> {
  return fetchJson(`/loupe.v1.${method}`, {
    method: "POST", headers: { "Content-Type": "application/json", "Connect-Protocol-Version": "1" }, body: JSON.stringify(request), signal,
  }) as Promise<T>;
}

// The same with protobuf's bytes (wire.ts), for answers of megabytes.
export async function callBytes(method: string, request: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
  const response = await ask(`/loupe.v1.${method}`, {
    method: "POST", headers: { "Content-Type": "application/proto", "Connect-Protocol-Version": "1" }, body: request as BodyInit, signal,
  });
  return new Uint8Array(await response.arrayBuffer());
}

export async function signIn(token: string): Promise<void> {
  await fetchJson("/v1/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
}
export async function signOut(): Promise<void> {
  await fetchJson("/v1/session", { method: "DELETE", headers: { "Content-Type": "application/json" } });
}

// trial: "sweeps/{sweep}/trials/{index}".
export function artifactUrl(trial: string, name: string): string { return `/v1/${trial}/artifacts/${encodeURIComponent(name)}`; }
// sweep: "sweeps/{sweep}".
export function eventsUrl(sweep: string): string { return `/v1/${sweep}/events`; }

export function requestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

export function sentenceOf(error: unknown): string { return error instanceof Error ? error.message : String(error); }
