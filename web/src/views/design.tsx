// What was asked for: the sweep file as submitted, its factors and fixed settings.
import { count, int, printable } from "../format";
import type { Sweep } from "../types";

export function DesignTab({ sweep }: { sweep: Sweep }) {
  const spec = sweep.spec ?? {};
  return (
    <div class="cards">
      <section class="card">
        <h2>Factors</h2>
        <p class="quiet">{count(sweep.cellCount)} cells × {spec.replicates ?? 1} replicates, seed {String(spec.seed ?? 0)}, priority {int(spec.priority)}.</p>
        {[...(spec.methods ?? []).map((method) => ({ title: method.label ?? method.settings?.["method.kind"] ?? "", factors: method.factors ?? [] })), { title: "", factors: spec.factors ?? [] }].filter((part) => part.factors.length).map((part) => (
          <dl class="pairs" key={part.title}>{part.title && <h3>{printable(part.title)}</h3>}{part.factors.map((factor) => <div key={factor.key}><dt>{printable(factor.key)}</dt><dd>{(factor.levels ?? []).map(printable).join(", ")}</dd></div>)}</dl>
        ))}
      </section>
      <section class="card">
        <h2>Fixed settings</h2>
        <dl class="pairs">{Object.entries(spec.settings ?? {}).sort().map(([key, value]) => <div key={key}><dt>{printable(key)}</dt><dd>{printable(value)}</dd></div>)}</dl>
      </section>
      {spec.sourceText && <section class="card"><h2>The sweep file</h2><pre tabIndex={0}>{spec.sourceText.split("\n").map(printable).join("\n")}</pre></section>}
    </div>
  );
}
