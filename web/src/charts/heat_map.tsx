// Input × output: a table whose cells are coloured by their mean. Pairs that the method does not have stay dashes, legal ones without
// a result stay dots; each cell with trials leads to them.
import { number, printable } from "../format";
import { amount, inkOn } from "./colors";

export interface HeatEntry { row: string; column: string; n: number; mean: number | null }

export function HeatMap({ rows, columns, rowName, columnName, entries, legal, smallerIsBetter, title, hrefOf }: {
  rows: string[]; columns: string[]; rowName: string; columnName: string; entries: HeatEntry[]; legal: (row: string, column: string) => boolean;
  smallerIsBetter: boolean; title: string; hrefOf: (row: string, column: string) => string;
}) {
  const means = entries.filter((entry) => entry.mean !== null && entry.n > 0).map((entry) => entry.mean!);
  const low = Math.min(...means), high = Math.max(...means);
  const share = (mean: number) => { const at = high > low ? (mean - low) / (high - low) : 0.5; return smallerIsBetter ? 1 - at : at; };
  const find = (row: string, column: string) => entries.find((entry) => entry.row === row && entry.column === column);
  return (
    <figure class="heat">
      <div class="scroll" tabIndex={0} role="region" aria-label={printable(title)}>
        <table>
          <caption class="hidden">{printable(title)}</caption>
          <thead>
            <tr><th scope="col"><span class="axis">{printable(rowName)} ↓ {printable(columnName)} →</span></th>{columns.map((column) => <th scope="col" key={column}>{printable(column)}</th>)}</tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row}>
                <th scope="row">{printable(row)}</th>
                {columns.map((column) => {
                  const entry = find(row, column);
                  if (!legal(row, column)) return <td key={column} class="illegal"><span aria-label="not in the design">–</span></td>;
                  if (!entry || entry.n === 0 || entry.mean === null) return <td key={column} class="open"><a href={hrefOf(row, column)} aria-label={printable(`${row} to ${column}: no result yet`)}>·</a></td>;
                  const at = share(entry.mean);
                  return (
                    <td key={column} style={{ background: amount(at) }}>
                      <a href={hrefOf(row, column)} style={{ color: inkOn(at) }} title={`mean of ${entry.n} trials: ${number(entry.mean, 6)}`}>
                        <b>{number(entry.mean, 3)}</b><small> n={entry.n}</small>
                      </a>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {means.length > 0 && (
        <figcaption class="scale">
          <span>{smallerIsBetter ? `worst ${number(high, 3)}` : `worst ${number(low, 3)}`}</span>
          <span class="ramp" aria-hidden="true">{Array.from({ length: 24 }, (_, i) => <i key={i} style={{ background: amount(i / 23) }} />)}</span>
          <span>{smallerIsBetter ? `best ${number(low, 3)}` : `best ${number(high, 3)}`}</span>
        </figcaption>
      )}
    </figure>
  );
}
