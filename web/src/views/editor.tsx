// A sweep file with its dry run beside it: problems at their place, and what the plan could find, before a trial runs.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, call, requestId, sentenceOf } from "../api";
import { Explain, Title } from "../explain";
import { count, int, lastPart, number, printable, seconds, span } from "../format";
import { Figure, Problem, Text } from "../parts";
import { go, link, type Route } from "../route";
import type { CreateSweepResponse, PlanSummary, Spec, Sweep } from "../types";

const example = `name: my-first
title: Where an adapter reads and writes
base: /absolute/path/to/configs/bases/emoji-sd
scorer: /absolute/path/to/configs/scorers/emoji-clip
task:
  images: /absolute/path/to/data/emoji/cat-faces
  instance_prompt: a photo of sks
  class_prompt: a photo of cat face
method: {width: 32, init: zero}
budget: {steps: 50}
factors:
  input: [SA_in, CA_in, CA_out]
  output: [FFN_in, Trans_out]
replicates: 2
seed: 7
`;

interface Violation { field: string; description: string }

// google.rpc.BadRequest in an error's details, in JSON beside the bytes.
function violationsOf(error: unknown): Violation[] {
  if (!(error instanceof ApiError)) return [];
  return (error.details as { type?: string; debug?: { fieldViolations?: Violation[] } }[]).flatMap((detail) => detail.debug?.fieldViolations ?? []);
}

// From where the relative paths of a submitted file were taken: what its absolute settings have before them.
export function workingDirectoryOf(spec: Spec | undefined): string {
  for (const value of Object.values(spec?.settings ?? {})) {
    for (let at = value.indexOf("/", 1); value.startsWith("/") && at > 0; at = value.indexOf("/", at + 1)) {
      if (spec?.sourceText?.includes(`: ${value.slice(at + 1)}\n`)) return value.slice(0, at);
    }
  }
  return "";
}

const priceKey = "loupe-gpu-hour";
function storedPrice(): string {
  try { return localStorage.getItem(priceKey) ?? ""; } catch { return ""; }
}

// Time and cost, from what like trials took here; where none has finished both are unknown, and nothing is made up.
function Cost({ plan }: { plan: PlanSummary }) {
  const [price, setPrice] = useState(storedPrice);
  const store = (text: string) => { setPrice(text); try { localStorage.setItem(priceKey, text); } catch { /* not kept */ } };
  const inAll = plan.estimatedTrialSeconds ?? 0, takes = seconds(plan.estimatedDuration), gpus = int(plan.estimatedGpus);
  const perHour = Number(price.replace(",", "."));
  const cost = takes !== undefined && gpus > 0 && perHour > 0 ? (takes / 3600) * gpus * perHour : undefined;
  return (
    <>
      <dl class="figures">
        <Figure label="Takes about" hint={<Explain about="takes" />}>{takes !== undefined ? span(takes) : "unknown"}</Figure>
        {inAll > 0 && <Figure label="Trial time in all" hint={<Explain about="inAll" />}>{span(inAll)}</Figure>}
        {inAll > 0 && <Figure label="GPU cost" hint={<Explain about="cost" />}>{cost !== undefined ? cost.toLocaleString("en", { maximumFractionDigits: 2, minimumFractionDigits: 2 }) : <small>{gpus ? "give a price" : "no GPU is connected"}</small>}</Figure>}
      </dl>
      {plan.estimateBasis && <p class="quiet"><Text>{plan.estimateBasis}</Text></p>}
      {inAll > 0 && gpus > 0 && <label class="choice">Price of a GPU-hour <input inputMode="decimal" size={6} value={price} onInput={(event) => store(event.currentTarget.value)} /></label>}
    </>
  );
}

function Plan({ plan }: { plan: PlanSummary }) {
  return (
    <>
      <dl class="figures">
        <Figure label="Cells" hint={<Explain about="cells" />}>{count(plan.cells)}</Figure><Figure label="Trials" hint={<Explain about="trials" />}>{count(plan.trials)}</Figure><Figure label="Residual df" hint={<Explain about="residual" />}>{count(plan.residualDf)}</Figure>
      </dl>
      <Cost plan={plan} />
      {plan.waiting?.map((waiting) => <p class="note" key={waiting.reason}>{count(waiting.trials)} trials would wait: <Text>{waiting.reason}</Text></p>)}
      {plan.terms?.length ? (
        <div class="scroll" tabIndex={0} role="region" aria-label="Plan"><table class="numbers"><thead><tr><th scope="col">Term</th><th scope="col">levels</th><th scope="col">df <Explain about="df" /></th><th scope="col">confounded <Explain about="aliased" /></th><th scope="col">f found <Explain about="power" /></th><th scope="col">power</th></tr></thead>
          <tbody>{plan.terms.map((term) => <tr key={term.term}><th scope="row"><Text>{term.term}</Text>{term.note && <small><Text>{term.note}</Text></small>}</th><td>{count(term.levels)}</td><td>{count(term.df)}</td><td class={int(term.aliasedDf) ? "bad" : "quiet"}>{count(term.aliasedDf)}</td><td>{number(term.detectableF, 2)}</td><td>{number(term.mediumPower, 2)}</td></tr>)}</tbody></table></div>
      ) : null}
      {plan.notes?.length ? <ul class="notes">{plan.notes.map((note) => <li key={note}><Text>{note}</Text></li>)}</ul> : null}
    </>
  );
}

export function EditorPage({ route }: { route: Route }) {
  const from = route.query.get("from");
  const [text, setText] = useState(from ? "" : example);
  const [name, setName] = useState("");
  const [folder, setFolder] = useState("");
  const [answer, setAnswer] = useState<CreateSweepResponse>();
  const [problem, setProblem] = useState("");
  const [violations, setViolations] = useState<Violation[]>([]);
  const [busy, setBusy] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const id = useRef(requestId());
  useEffect(() => {
    if (!from) return;
    call<Sweep>("SweepService/GetSweep", { name: `sweeps/${from}` }).then((sweep) => {
      setText(sweep.spec?.sourceText || "# This sweep was submitted without its file: its settings are in the Design tab.\n");
      setName(`${from}-2`);
      setFolder(workingDirectoryOf(sweep.spec));
    }, (error) => setProblem(sentenceOf(error)));
  }, [from]);
  const request = (validateOnly: boolean) => ({ file: { text, fileName: `${name || "sweep"}.yaml`, workingDirectory: folder }, sweepId: name, validateOnly, ...(validateOnly ? {} : { requestId: id.current }) });
  useEffect(() => {
    if (!text.trim()) return;
    const control = new AbortController();
    const timer = setTimeout(async () => {
      setBusy(true);
      try {
        setAnswer(await call<CreateSweepResponse>("SweepService/CreateSweep", request(true), control.signal));
        setProblem("");
        setViolations([]);
      } catch (error) {
        if (control.signal.aborted) return;
        setAnswer(undefined);
        const found = violationsOf(error);
        setViolations(found);
        setProblem(found.length ? "" : sentenceOf(error));
      }
      setBusy(false);
    }, 400);
    return () => { clearTimeout(timer); control.abort(); };
  }, [text, name, folder]);
  const submit = async () => {
    setProblem("");
    try {
      const made = await call<CreateSweepResponse>("SweepService/CreateSweep", request(false));
      go(link(["sweeps", lastPart(made.sweep!.name)]));
    } catch (error) {
      id.current = requestId();
      setViolations(violationsOf(error));
      setProblem(sentenceOf(error));
    }
  };
  const jump = (field: string) => {
    const place = field.match(/:(\d+)(?::(\d+))?$/);
    if (!place || !area.current) return;
    const lines = text.split("\n");
    const start = lines.slice(0, Number(place[1]) - 1).reduce((sum, line) => sum + line.length + 1, 0) + Number(place[2] ?? 1) - 1;
    area.current.focus();
    area.current.setSelectionRange(start, start + 1);
  };
  return (
    <>
      <div class="bar"><h1>{from ? <>Clone of <Text>{from}</Text></> : "New sweep"}</h1></div>
      <div class="editor">
        <section class="card">
          <label class="field">Name <input value={name} placeholder="from the file" spellcheck={false} onInput={(event) => setName(event.currentTarget.value)} /></label>
          <label class="field grow">Sweep file <textarea ref={area} spellcheck={false} autocomplete="off" value={text} onInput={(event) => setText(event.currentTarget.value)} rows={Math.max(18, text.split("\n").length + 1)} /></label>
          <p class="quiet">{folder ? <>Relative paths are taken from <code>{printable(folder)}</code>; the workers look for them there.</> : "Paths must be absolute: the workers look for them there."} Every key is listed by <code>loupe keys</code>.</p>
        </section>
        <section class="card" aria-live="polite">
          <Title>Dry run {busy && <small class="quiet">…</small>}</Title>
          <Problem>{problem}</Problem>
          {violations.length > 0 && <div role="alert"><ul class="violations">{violations.map((violation) => <li key={violation.field + violation.description}><button type="button" class="plain" onClick={() => jump(violation.field)}><code>{printable(violation.field)}</code></button> <Text>{violation.description}</Text></li>)}</ul></div>}
          {answer?.plan && <Plan plan={answer.plan} />}
          {!answer && !problem && !violations.length && <p class="quiet">{busy ? "Being planned…" : "Nothing to plan yet."}</p>}
          <p><button type="button" class="main" disabled={!answer} onClick={submit}>Submit{answer?.plan ? ` ${count(answer.plan.trials)} trials` : ""}</button>{answer?.sweepId && <small class="quiet"> as {answer.sweepId}</small>}</p>
        </section>
      </div>
    </>
  );
}
