// A canvas that is sharp on every screen and is drawn anew when its size, its data or the colour scheme changes.
import { useEffect, useRef, useState } from "preact/hooks";
import type { CanvasHTMLAttributes } from "preact";

export type Draw = (context: CanvasRenderingContext2D, width: number, height: number) => void;

// Another number whenever the colours have changed: what has drawn with them draws again.
export function useScheme(): number {
  const [round, setRound] = useState(0);
  useEffect(() => {
    const again = () => setRound((n) => n + 1);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const paper = matchMedia("print");
    for (const query of [dark, paper]) query.addEventListener("change", again);
    addEventListener("loupe-theme", again);
    return () => { for (const query of [dark, paper]) query.removeEventListener("change", again); removeEventListener("loupe-theme", again); };
  }, []);
  return round;
}

export function Canvas({ draw, height, keys, label, ...rest }: { draw: Draw; height: number; keys: unknown[]; label: string } & Omit<CanvasHTMLAttributes<HTMLCanvasElement>, "label" | "height">) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [round, setRound] = useState(0);
  const scheme = useScheme();
  useEffect(() => {
    const watch = new ResizeObserver(() => setRound((n) => n + 1));
    watch.observe(canvas.current!);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    const element = canvas.current!;
    const scale = devicePixelRatio || 1;
    const width = element.clientWidth;
    element.width = Math.round(width * scale);
    element.height = Math.round(height * scale);
    const context = element.getContext("2d")!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    draw(context, width, height);
  }, [round, scheme, height, ...keys]);
  return <canvas ref={canvas} role="img" aria-label={label} style={{ height: `${height}px` }} {...(rest as object)} />;
}
