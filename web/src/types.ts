// Messages of loupe.v1 as protobuf's JSON mapping writes them: fields at their default are absent, 64-bit integers are texts.
type Int64 = string | number;

export interface Counts { total?: Int64; queued?: Int64; running?: Int64; succeeded?: Int64; failed?: Int64; cancelled?: Int64; quarantined?: Int64 }

export interface Factor { key: string; levels?: string[] }
export interface Method { label?: string; settings?: Record<string, string>; factors?: Factor[] }
export interface Spec {
  displayName?: string; settings?: Record<string, string>; factors?: Factor[]; methods?: Method[];
  replicates?: number; seed?: Int64; priority?: number; sourceText?: string;
}
export interface Waiting { sweep?: string; trials?: Int64; reason?: string }
export type SweepState = "ACTIVE" | "PAUSED" | "STOPPING" | "COMPLETED" | "STOPPED" | "CANCELLED" | "CREATING" | "DELETING";
export interface Sweep {
  name: string; uid?: string; spec?: Spec; state?: SweepState; counts?: Counts; createTime?: string; updateTime?: string;
  endTime?: string; etag?: string; cellCount?: Int64; estimatedTimeLeft?: string; stateReason?: string; waiting?: Waiting[];
}
export interface Digest {
  score?: string; scoreTitle?: string; smallerIsBetter?: boolean; results?: Int64; best?: number; bestTrial?: string; mean?: number;
  accepted10Minutes?: Int64; acceptedHour?: Int64;
}
export interface RunningAttempt {
  trial: string; worker?: string; cell?: Record<string, string>; replicate?: number; phase?: string; step?: Int64;
  totalSteps?: Int64; metrics?: Record<string, number>; elapsed?: string; pack?: number;
}
export interface SweepNews { sweep: Sweep; running?: RunningAttempt[]; runningLeftOut?: Int64 }

export interface TermSummary { term: string; levels?: Int64; df?: Int64; aliasedDf?: Int64; note?: string; detectableF?: number; mediumPower?: number }
export interface PlanSummary {
  cells?: Int64; trials?: Int64; terms?: TermSummary[]; residualDf?: Int64; notes?: string[]; waiting?: Waiting[];
  estimatedDuration?: string; estimateBasis?: string; estimatedTrialSeconds?: number; estimatedGpus?: Int64;
}
export interface CreateSweepResponse { sweep?: Sweep; plan?: PlanSummary; spec?: Spec; sweepId?: string }

export const trialStates = ["UNSPECIFIED", "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "QUARANTINED"] as const;
export interface Failure { class?: string; message?: string }
export interface Trial {
  name: string; state?: string; cell?: Record<string, string>; cellIndex?: Int64; replicate?: number; scores?: Record<string, number | string>;
  lastFailure?: Failure; attempts?: Int64; workerLosses?: Int64; worker?: string; startTime?: string; endTime?: string; stoppedAtStep?: Int64;
}
export interface LogLine { sequence?: Int64; time?: string; level?: string; text?: string }
export interface LogAnswer { lines?: LogLine[]; more?: boolean; epoch?: Int64; ended?: boolean; dropped?: Int64; latestEpoch?: Int64 }
export interface Attempt {
  trial: string; epoch?: Int64; worker?: string; outcome?: string; failure?: Failure; startTime: string; endTime?: string;
}
export interface TrialDetails { trial: Trial; settings?: Record<string, string>; sweepSeed?: Int64; attempts?: Attempt[]; provenance?: Record<string, string> }
export interface Artifact { name: string; mediaType?: string; sizeBytes?: Int64; sha256?: string; epoch?: Int64 }
export interface Curve { trial?: Int64; state?: string; steps?: number[]; means?: number[]; lows?: number[]; highs?: number[]; points?: Int64 }
export interface CurvesAnswer { metric?: string; metrics?: string[]; curves?: Curve[]; candidates?: Int64 }
export interface Telemetry {
  memoryBytes?: Int64; busyCores?: number; stepSeconds?: number; picturesPerSecond?: number;
  gpus?: { device?: string; memoryUsedBytes?: Int64; memoryTotalBytes?: Int64; utilization?: number }[];
}
export interface Worker {
  name: string; state?: string; slots?: number; running?: string[]; sinceLastSync?: string; firstSeenTime?: string;
  trialsSucceeded?: Int64; trialsFailed?: Int64; telemetry?: Telemetry; attempts?: RunningAttempt[];
  description?: {
    hostname?: string; device?: string; version?: string; processId?: Int64; threads?: number; memoryBytes?: Int64;
    abilities?: { methods?: string[]; tasks?: string[]; bases?: string[]; devices?: string[]; deviceMemoryBytes?: Int64 };
  };
}

// docs/report.schema.json, as far as the page shows it.
export interface Level { level: string; n: number; mean: number | null; low: number | null; high: number | null; estimable?: boolean; reason?: string | null; within?: string | null }
export interface Term {
  term: string; df: number; nominal_df: number; sum_sq: number | null; mean_sq: number | null; f: number | null; p: number | null; block?: boolean;
  estimable: boolean; note: string; effect?: { partial_eta_sq: number | null; partial_eta_sq_low: number | null; partial_eta_sq_high: number | null } | null;
}
export interface HeatCell { row: string; column: string; n: number; mean: number | null; low: number | null; high: number | null }
export interface RankedCell { levels: Record<string, string>; n: number; mean: number | null; low: number | null; high: number | null; may_be_best: boolean | null }
export interface MethodRow {
  method: string; trials: number; settings: number; mean: number | null; low: number | null; high: number | null; reason: string | null;
  best: { levels: Record<string, string>; mean: number | null } | null;
  costs: Record<string, { mean: number }>;
}
export interface Report {
  state: string; hash: string; problem: string | null; response: string; smaller_is_better: boolean; formula: string; ss_type: number; replicates: number;
  trials: Record<string, number>; baseline_text?: string | null; sample: { rows: number; used: number };
  terms: Term[]; residual: { df: number; sum_sq: number; mean_sq: number } | null; r_squared: number | null; grand_mean: number | null;
  means: Record<string, Level[]>; heat_map: { rows: string; columns: string; cells: HeatCell[] } | null;
  details: {
    marginal_means: Record<string, Level[]>; residual_sd: number | null;
    simple_effects: { factors: string[]; within: string[]; effects: { within: Record<string, string>; f: number | null; p: number | null; df: number; marginal_means: Level[] }[] }[];
    ranking: { reason: string | null; may_be_best?: number; cells?: RankedCell[] };
    assumptions: { sentences?: string[]; reason?: string | null };
    importance: { reason: string | null; shares?: { factors: string[]; share: number | null; spread: number | null }[]; higher_order?: number | null };
    power: { terms: { term: string; detectable_f: number | null; found_f: number | null }[] };
    methods: { sentences: string[]; methods: MethodRow[]; baseline: string } | null;
  } | null;
  notes: string[]; failures: { message: string; trials: number[] }[]; methods: string;
}
