import { styleText } from "node:util";

/** A heading that starts with ">" stands over numbers, which are set to the right. */
export type Table = {
  readonly headings: readonly string[];
  readonly rows: readonly (readonly string[])[];
};

/** Lines of a table, indented by two, without spaces at their ends. */
export function renderTable({ headings, rows }: Table): string[] {
  const isRight = headings.map((heading) => heading.startsWith(">"));
  const titles = headings.map((heading) => heading.replace(/^>/, ""));
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)),
  );
  const toLine = (cells: readonly string[]) =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return isRight[column] ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  ")
      .trimEnd();
  return [style("dim", `  ${toLine(titles)}`), ...rows.map((row) => `  ${toLine(row)}`)];
}

/** Names with what belongs to them, in two columns. */
export function renderPairs(pairs: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`);
}

export function title(text: string): string {
  return style("bold", text);
}

/** Styled only where standard output is a terminal and `NO_COLOR` is not set. */
export function style(format: "bold" | "dim" | "red" | "green" | "yellow", text: string): string {
  return styleText(format, text, { stream: process.stdout });
}
