// Colours that are told apart with every common colour vision: Okabe and Ito's for kinds, and a scale whose lightness rises evenly
// (viridis, from matplotlib, in nine stops) for amounts.

const stops = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"].map((hex) =>
  [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));

// share from 0 to 1.
export function amountRgb(share: number): [number, number, number] {
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  return [0, 1, 2].map((i) => Math.round(stops[low][i] + (place - low) * (stops[low + 1][i] - stops[low][i]))) as [number, number, number];
}
export const amount = (share: number): string => `rgb(${amountRgb(share).join(" ")})`;
// Black or white, whichever has more contrast on that colour (WCAG's relative luminance).
export function inkOn(share: number): string {
  const [r, g, b] = amountRgb(share).map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

// Kinds are told apart by one of eight colours, which are lighter on dark ground (app.css): for styles, and for canvases.
export const kindsInAll = 8;
export const kindVar = (i: number): string => `var(--kind-${i % kindsInAll})`;
export const kindColor = (i: number): string => cssColor(`--kind-${i % kindsInAll}`);

export const cssColor = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
