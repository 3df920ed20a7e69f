// Small pieces that every view is made of.
import type { ComponentChildren } from "preact";
import { Explain } from "./explain";
import { int, printable, stateWord, count } from "./format";
import { setQuery, type Route } from "./route";
import { anyStopped, type TrialTable } from "./table_data";
import type { Counts } from "./types";

export function State({ state }: { state?: string }) {
  const name = state ?? "STATE_UNSPECIFIED";
  return <span class={`state state-${name.toLowerCase()}`}>{stateWord[name] ?? name.toLowerCase()}</span>;
}

export function Problem({ children }: { children?: ComponentChildren }) {
  return children ? <p class="problem" role="alert">{typeof children === "string" ? printable(children) : children}</p> : null;
}

export const Text = ({ children }: { children?: string }) => <bdi>{printable(children ?? "")}</bdi>;

const parts: [keyof Counts, string][] = [
  ["succeeded", "done"], ["failed", "failed"], ["quarantined", "set aside"], ["cancelled", "cancelled"], ["running", "running"], ["queued", "queued"],
];

export function Progress({ counts }: { counts?: Counts }) {
  const total = int(counts?.total);
  const words = parts.filter(([key]) => int(counts?.[key]) > 0).map(([key, word]) => `${count(counts?.[key])} ${word}`).join(", ");
  return (
    <div class="progress" role="img" aria-label={`${words || "no trials"} of ${count(total)}`} title={words}>
      {parts.filter(([key]) => key !== "queued" && int(counts?.[key]) > 0).map(([key]) => (
        <span key={key} class={`part part-${key}`} style={{ width: `${(100 * int(counts?.[key])) / Math.max(1, total)}%` }} />
      ))}
    </div>
  );
}

export function Figure({ label, children, hint }: { label: string; children: ComponentChildren; hint?: ComponentChildren }) {
  return <div class="figure"><dt>{label}{hint}</dt><dd>{children}</dd></div>;
}

export function Choice<T extends string>({ label, value, options, onChange }: { label: string; value: T; options: { value: T; text: string }[]; onChange: (value: T) => void }) {
  return (
    <label class="choice">{label}{" "}
      <select value={value} onChange={(event) => onChange(event.currentTarget.value as T)}>
        {options.map((option) => <option key={option.value} value={option.value}>{printable(option.text)}</option>)}
      </select>
    </label>
  );
}

// Where a search has ended trials early: whether they count in means.
export function Early({ table, route }: { table: TrialTable; route: Route }) {
  const early = route.query.get("early") === "1";
  if (!anyStopped(table)) return null;
  return <label class="choice"><input type="checkbox" checked={early} onChange={() => setQuery(route, { early: early ? undefined : "1" })} /> count those ended early <Explain about="early" /></label>;
}
