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
  power: "What these trials could find if every one gives a result. “f found” is the smallest effect (Cohen's f: 0.1 small, 0.25 medium, 0.4 large) found 8 times in 10; power is how often a medium one is found.",
  aliased: "Comparisons that this plan cannot tell from those of other factors, because some combinations do not exist.",
  silent: "Time since the worker was last heard of. It calls at least every few seconds; after its lease it counts as lost and its trials go to others.",
} as const;

export function Explain({ about }: { about: keyof typeof explanations }) {
  const id = useId();
  const panel = useRef<HTMLDivElement>(null);
  return (
    <span class="explain">
      <button type="button" class="why" aria-label="What is this?" popovertarget={id}>?</button>
      <div id={id} popover="auto" class="explanation" ref={panel} role="note">{explanations[about]}</div>
    </span>
  );
}

export function Title({ children, about, level = 2 }: { children: ComponentChildren; about?: keyof typeof explanations; level?: 2 | 3 }) {
  const Heading = `h${level}` as "h2";
  return <Heading>{children}{about && <> <Explain about={about} /></>}</Heading>;
}
