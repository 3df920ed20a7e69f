// Numbers, times and names as the page writes them.

export const int = (value: string | number | undefined): number => Number(value ?? 0);
export const count = (value: string | number | undefined): string => int(value).toLocaleString("en");
export const lastPart = (name: string): string => name.slice(name.lastIndexOf("/") + 1);

// Four significant digits, without an exponent where one can do without.
export function number(value: number | null | undefined, digits = 4): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return value.toString().replace("-", "−");
  const text = size >= 1e6 || size < 1e-4 ? value.toExponential(digits - 2) : size >= 10 ** digits ? Math.round(value).toString() : value.toPrecision(digits);
  return text.replace("-", "−");
}
export function pValue(p: number | null): string {
  if (p === null) return "–";
  return p < 0.0001 ? "< 0.0001" : p.toFixed(4);
}
export const stars = (p: number | null): string => (p === null ? "" : p < 0.001 ? "***" : p < 0.01 ? "**" : p < 0.05 ? "*" : "");

// "3.5s", as protobuf writes a Duration.
export const seconds = (duration: string | undefined): number | undefined => (duration ? parseFloat(duration) : undefined);
export function span(total: number | undefined): string {
  if (total === undefined || !Number.isFinite(total)) return "–";
  if (total < 1) return "under 1 s";
  if (total < 100) return `${Math.round(total)} s`;
  const minutes = total / 60;
  if (minutes < 100) return `${Math.round(minutes)} min`;
  const hours = minutes / 60;
  return hours < 48 ? `${Math.floor(hours)} h ${Math.round(minutes % 60)} min` : `${(hours / 24).toFixed(1)} days`;
}
export function when(time: string | undefined): string {
  if (!time) return "–";
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString("en-GB") : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
export function bytes(size: number): string {
  if (size < 1024) return `${size} B`;
  const power = Math.min(4, Math.floor(Math.log2(size) / 10));
  return `${(size / 1024 ** power).toFixed(size / 1024 ** power < 10 ? 1 : 0)} ${"KMGT"[power - 1]}iB`;
}
// With how many others a trial is trained; nothing where it is alone, or its worker does not say.
export const packText = (attempt: { pack?: number }): string => ((attempt.pack ?? 0) > 1 ? `, pack of ${attempt.pack}` : "");

// Characters that would turn text round or hide in it are shown by their code, as in the reports.
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0"));
}
export const cellText = (cell: Record<string, string> | undefined): string =>
  Object.entries(cell ?? {}).map(([factor, level]) => `${printable(factor)}=${printable(level)}`).join(", ");

export const stateWord: Record<string, string> = {
  ACTIVE: "running", PAUSED: "paused", STOPPING: "stopping", COMPLETED: "done", STOPPED: "stopped", CANCELLED: "cancelled", CREATING: "being made",
  DELETING: "being deleted", QUEUED: "queued", RUNNING: "running", SUCCEEDED: "done", FAILED: "failed", QUARANTINED: "set aside",
  IDLE: "idle", BUSY: "busy", DRAINING: "draining", LOST: "lost", SET_ASIDE: "set aside", STATE_UNSPECIFIED: "unknown",
};
export const terminal = (state: string | undefined): boolean => state === "COMPLETED" || state === "STOPPED" || state === "CANCELLED";

// As one word of a POSIX shell.
export function shellWord(text: string): string {
  return /^[\w./=:,+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
