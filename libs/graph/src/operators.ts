/**
 * The table of a folder of operator files: what each exports under an operator's own, capitalised name.
 * Helpers begin with a small letter.
 */
export function operators<Rule>(...files: readonly object[]): ReadonlyMap<string, Rule> {
  const named = files.flatMap((file) => Object.entries(file) as [string, Rule][]);
  return new Map(named.filter(([name]) => /^[A-Z][A-Za-z0-9]*$/.test(name)));
}
