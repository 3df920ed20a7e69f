// A sentence for each number, on demand: a small button beside it that opens the text. Works with keyboard and screen reader alike.
import { useId, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";

export const explanations = {
  progress: "Trials that have ended, of all that the plan has. A trial is one combination of settings (a cell) with one set of random seeds (a replicate).",
  rate: "Results accepted in the last ten minutes (or since the sweep was made), carried to an hour; those of the whole last hour where the last ten minutes had none.",
  left: "From the median time of the trials so far and the workers that are connected now. It moves when workers come or go.",
  best: "The best single trial by the sweep's primary score. The best of many is flattered by luck: the ranking of cells says what can be told apart.",
  f: "How much larger the differences between a factor's levels are than chance alone would make them: 1 means no more than chance.",
  p: "How often an F at least this large would come by chance if the factor did nothing. Small means: hard to explain by chance. It does not say that the effect is large.",
  eta: "The share of what the other factors leave unexplained that this factor explains, from 0 to 1, with its 95 % interval.",
  df: "Degrees of freedom: how many independent comparisons the term has. “7 of 9” means that two of them cannot be told from another factor.",
  mean: "The model's mean of each level with all other factors at equal weights, and its 95 % interval. Where intervals of levels hardly overlap, they differ.",
  heat: "Mean score of all finished trials with this input and output position. Dashes: the method has no such pair. Dots: legal, but no result yet.",
  ranking: "Cells from the best down. A cell that is marked may be the true best: with so many trials it cannot be told from the first one (Hsu's multiple comparisons with the best).",
  importance: "The share of the score's variance that each factor, or pair of factors, accounts for in a random forest (functional ANOVA). ± is the spread over the trees.",
  parallel: "Each line is a trial, or many that coincide. Drag along an axis to keep what passes there; what is kept is what the table shows.",
  curves: "One line per trial, thinned by the coordinator: each point stands for a stretch of steps, and the band for the smallest and largest value in it.",
  groups: "Over all trials that pass the filter, not only those in view. The interval is Student's, from each group's own spread; missing counts trials without this score.",
  gantt: "One bar per attempt: which worker had which trial when, and what became of it.",
  noise: "How differently the tuned model hears the subject's word: the predicted noise with the identifier less that without it. Left: tuned; right: the untuned base.",
  subject: "The first pictures of the data set, as they are trained on: upright, cut to a square and brought to the base's size.",
  samples: "Sampled with this trial's weights: the pictures that its scores are computed from.",
  base: "The untuned base's pictures of the same prompts from the same noise: each stands where the tuned one's does, so that two pictures in one place show what tuning has changed.",
  gallery: "One trial's pictures for each pair of levels, of the trials that pass the filter of the Trials tab. “The first” is the lowest number, and so the same random seeds for all of the first replicate; the best of several is flattered by luck.",
  baseScore: "The same score of pictures that the base makes without any tuning, from the same prompts and noise.",
  took: "From the start of the latest attempt to its end, all of its phases: base, training, sampling, scores.",
  runningNow: "Trials that a worker holds at this moment.",
  failed: "Trials that ended without a result for good: by their own error, or because they have cost too many workers (set aside). They can be retried.",
  sumSq: "The part of the score's variation that goes with this term.",
  methods: "Each method over its own settings: the mean of their trials, with a 95 % interval, and what they cost.",
  rho: "Spearman's ρ: 1 when both sweeps put the cells in the same order, 0 when their orders have nothing to do with each other, −1 when they are opposite.",
  confidence: "A 95 % interval: of a hundred such intervals about 95 contain the true mean. It says how sure the mean is, not how far single trials spread.",
  early: "A search ends trials early that are seen to be worse than others. They had a part of their budget only, and so are left out of means and tests unless you ask for them.",
  log: "What the worker logged while it worked on this attempt. The coordinator keeps a bounded part of it, the latest lines longest.",
  power: "What these trials could find if every one gives a result. “f found” is the smallest effect (Cohen's f: 0.1 small, 0.25 medium, 0.4 large) found 8 times in 10; power is how often a medium one is found.",
  cells: "Combinations of settings that are legal and not excluded.",
  trials: "Cells times replicates: each cell runs once with each set of random seeds.",
  residual: "What is left to estimate chance from. With few of it only large effects are found.",
  takes: "The median seconds of finished trials of the same kind (base, task, method, batch, samples, …), times the trials, over how many the connected workers run at once. Unknown where no such trial has finished on this coordinator.",
  inAll: "What all trials would take one after the other.",
  cost: "Hours times different GPUs of the connected workers times the price of a GPU-hour that you give; it is kept in this browser alone.",
  aliased: "Comparisons that this plan cannot tell from those of other factors, because some combinations do not exist.",
  use: "As the worker measured it last: how much of the time a kernel ran on its GPU, how many of its threads were busy, and memory. A GPU's numbers are of the whole device, other processes included.",
  perHour: "Trials that it ended with a result, since the first one in the time that the timeline below shows, carried to an hour.",
  wanted: "By the trials that are queued or running and the time that such trials took: a fleet that has fewer than would have enough to do may grow.",
  silent: "Time since the worker was last heard of. It calls at least every few seconds; after its lease it counts as lost and its trials go to others.",
} as const;

// Of what is listed above, or a text of its own.
export function Explain({ about, text }: { about?: keyof typeof explanations; text?: string }) {
  const id = useId();
  const panel = useRef<HTMLDivElement>(null);
  return (
    <span class="explain">
      <button type="button" class="why" aria-label="What is this?" popovertarget={id}>?</button>
      <div id={id} popover="auto" class="explanation" ref={panel} role="note">{about ? explanations[about] : text}</div>
    </span>
  );
}

export function Title({ children, about, level = 2 }: { children: ComponentChildren; about?: keyof typeof explanations; level?: 2 | 3 }) {
  const Heading = `h${level}` as "h2";
  return <Heading>{children}{about && <> <Explain about={about} /></>}</Heading>;
}
