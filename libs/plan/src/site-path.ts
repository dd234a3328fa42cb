/**
 * Whether a path stays in the folder that it counts from, as far as its letters say. A plan is another's
 * word, and what a site answers to `../../etc/passwd` must not depend on what its disk holds. The same on
 * every system, so no backslash and no drive.
 */
export function staysInside(path: string): boolean {
  const foreign = /[\\\0]/.test(path) || /^(?:\/|[A-Za-z]:)/.test(path);
  return !foreign && !path.split("/").includes("..");
}
